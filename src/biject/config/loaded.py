"""`LoadedConfig`: what the modules were built from, and beside it config.json under Hugging Face's names.

Code written for transformers asks `model.config` for `model_type`, `num_attention_heads` or `id2label`, and
HF's Trainer sets `use_cache` there. Our modules read `ModelConfig`'s fields only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import FrozenInstanceError, fields
from typing import Any, Self

from biject.config.common import label_names, stale_labels
from biject.config.model import ModelConfig
from biject.errors import ConfigError

_SETTABLE = ("use_cache",)
"""What other trainers set; HF's decoders then compute as families' `split_at_jumps` says. It is not saved."""
_SPECIAL_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
"""What HF's Trainer sets by the tokenizer, and users do; written with the model."""


class LoadedConfig(ModelConfig):
    """A `ModelConfig` that also answers to the names of a checkpoint's config.json.

    Attributes:
        hf: config.json's values.
        resolved: the same by our field names, with the family's defaults.
    """

    hf: Mapping[str, Any]
    resolved: Mapping[str, Any]

    @classmethod
    def of(cls, config: ModelConfig, hf: Mapping[str, Any], resolved: Mapping[str, Any]) -> Self:
        """The same sizes, with a file's values beside them."""
        new = cls(**{each.name: getattr(config, each.name) for each in fields(ModelConfig)})
        vars(new).update(hf=hf, resolved=resolved)
        return new

    def resize(self, vocab_size: int) -> None:
        """Have another number of tokens."""
        self._take("vocab_size", vocab_size)

    def _take(self, name: str, value: Any) -> None:
        changed = {name: value}
        vars(self).update(changed, hf={**self.hf, **changed}, resolved={**self.resolved, **changed})

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            for values in (vars(self).get("hf", {}), vars(self).get("resolved", {})):
                if name in values:
                    return values[name]
        raise AttributeError(f"Neither ModelConfig nor config.json has `{name}`.")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _SPECIAL_IDS:
            self._set_id(name, value)
            return
        if name not in _SETTABLE:
            raise FrozenInstanceError(
                f"`config.{name}` cannot be set on a built model: give it to `from_pretrained`, or change "
                "config.json and load again."
            )
        vars(self)[name] = value
        if name in self.resolved:
            vars(self)["split_at_jumps"] = not value

    def _set_id(self, name: str, value: Any) -> None:
        """Name another special token.

        Raises:
            ConfigError: there is no such token, or the model counts positions from its padding token.
        """
        known = getattr(self, name, None)
        if value == known and type(value) is type(known):
            return
        ids = value if isinstance(value, list | tuple) and name == "eos_token_id" else [value]
        if value is not None and not all(type(one) is int and 0 <= one < self.vocab_size for one in ids):
            top = self.vocab_size - 1
            raise ConfigError(f"`config.{name}`: a token's id is 0 to {top}, found {value!r}.")
        if name == "pad_token_id" and self.embedding.position_rule == "after-pad":
            raise ConfigError(
                f"`config.pad_token_id`: this model's positions count from its padding token, "
                f"{self.pad_token_id}; with {value!r} it would be another model."
            )
        self._take(name, value)

    def get_text_config(self, *_: Any, **__: Any) -> Self:
        """Itself: where code for transformers looks for the part of a config that is about texts."""
        return self

    @property
    def num_labels(self) -> int:
        """Outputs of the head."""
        return self.head.num_labels

    @property
    def problem_type(self) -> str | None:
        """Of a sequence classifier."""
        found: str | None = getattr(self.head, "problem_type", None)
        return found

    @property
    def id2label(self) -> dict[int, str]:
        """Names of the outputs, as HF names them where config.json does not."""
        named = self.hf.get("id2label")
        if named and not stale_labels(self.hf):
            return {int(index): label for index, label in named.items()}
        return dict(enumerate(label_names(self.hf, self.num_labels)))

    @property
    def label2id(self) -> dict[str, int]:
        """The outputs by their names."""
        return {label: index for index, label in self.id2label.items()}

    def to_dict(self) -> dict[str, Any]:
        """config.json's values, with the labels."""
        return {**self.hf, "id2label": self.id2label, "label2id": self.label2id}

    def get(self, name: str, default: Any = None) -> Any:
        """A value by its name in config.json."""
        return getattr(self, name, default)
