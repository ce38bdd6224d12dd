"""Which class of transformers computes a checkpoint with a head, by its own tables of `AutoModelFor…`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from biject.errors import ConfigError, shown
from biject.fallback.library import quiet, transformers
from biject.identify import architecture_of

TABLES: Mapping[str, tuple[str, ...]] = {
    "seqcls": ("MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",),
    "tokcls": ("MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",),
    "qa": ("MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES",),
    "mlm": ("MODEL_FOR_MASKED_LM_MAPPING_NAMES",),
    "causal": ("MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",),
    "imgcls": ("MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",),
    "base": ("MODEL_MAPPING_NAMES", "MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES"),
}
"""transformers' tables by our names of heads; the first entry is what `AutoModelFor…` takes."""

_CHANGES_CODE = ("fusion_config", "distributed_config", "transformers_weights", "kernel_config")
"""Keys of config.json by which transformers would run or read something else than the model."""
_PINNED = (
    "auto_map", "attn_implementation", "_attn_implementation", "_attn_implementation_internal",
    "experts_implementation", "_experts_implementation", "_experts_implementation_internal",
)  # fmt: skip
"""Keys that name code: of the folder, or kernels of the Hub. What computes is transformers' own choice."""
_LAYERS = re.compile(r"(?<!_per_)(layer|depth|block|stage|repeat)s?$")
"""Ends of keys that count layers, or list their indices; transformers' configs allocate by some of them. What
there is per layer is no count of them.
"""
_USUAL_LAYERS = 256
_LABELS = re.compile(r"num_labels$")
_MOST_LABELS = 1 << 20
_LONGEST = 100
"""Characters of a key in a message, its last ones."""


def class_names(model_type: str, head: str) -> tuple[str, ...]:
    """Classes that compute a head; none where transformers has none."""
    auto = transformers().models.auto.modeling_auto
    found: list[str] = []
    for table in TABLES[head]:
        named = getattr(auto, table).get(model_type, ())
        found += [named] if isinstance(named, str) else named
    return tuple(dict.fromkeys(found))


def base_classes(model_type: str) -> list[Any]:
    """The classes of the base model alone."""
    return [getattr(transformers(), name) for name in class_names(model_type, "base")]


def heads_of(model_type: str) -> tuple[str, ...]:
    """The heads that transformers has for a `model_type`."""
    return tuple(head for head in TABLES if class_names(model_type, head))


def head_of(config: Mapping[str, Any]) -> str | None:
    """The head of the class that config.json names; None where it is none of ours, or none is named."""
    named = architecture_of(config)
    found = [head for head in TABLES if named in class_names(str(config.get("model_type")), head)]
    return found[0] if found else None


def model_class(config: Mapping[str, Any], head: str) -> Any:
    """The class for a head: the one that config.json names if it has that head, else `AutoModelFor…`'s.

    Raises:
        ConfigError: transformers has none for this `model_type`; the message lists the heads it has.
    """
    model_type = str(config.get("model_type"))
    names = class_names(model_type, head) if head in TABLES else ()
    if not names:
        listed = ", ".join(heads_of(model_type)) or "none that Biject trains"
        raise ConfigError(
            f"transformers {transformers().__version__} has no class of `{model_type}` for the head "
            f"`{head}`; it has {listed}."
        )
    named = architecture_of(config)
    return getattr(transformers(), named if named in names else names[0])


def hf_config(config: Mapping[str, Any], *, num_tensors: int, where: str) -> Any:
    """Transformers' config object of a config.json; no code of the folder is looked at.

    Args:
        config: config.json, with a new head's labels.
        num_tensors: Of the weights: more layers than these are refused, wherever the config has them.
        where: The folder, for messages.

    Raises:
        ConfigError: The `model_type` is none of transformers' own, the weights are quantised, a key would
            change what code runs, or transformers refuses the values.
    """
    model_type = config.get("model_type")
    auto = transformers().models.auto.configuration_auto
    if not isinstance(model_type, str) or model_type not in auto.CONFIG_MAPPING_NAMES:
        code = " Code that the folder brings (`auto_map`) is never run." if "auto_map" in config else ""
        raise ConfigError(
            f"{where}: config.json: `model_type` is {shown(model_type)}, which is none of transformers "
            f"{transformers().__version__}'s own.{code}"
        )
    if config.get("quantization_config") is not None:
        raise ConfigError(
            f"{where} is quantised, and backend='hf' trains weights that are whole: begin with the model "
            "that it was made from."
        )
    strange = [key for key in _CHANGES_CODE if config.get(key) is not None]
    if strange:
        raise ConfigError(
            f"{where}: config.json: `{strange[0]}` changes what transformers runs or reads, which "
            "backend='hf' refuses. Remove it."
        )
    _check_counts(config, num_tensors=num_tensors, where=where)
    values = {key: value for key, value in config.items() if key not in _PINNED}
    with quiet(f"{where}: transformers cannot use config.json"):
        return auto.CONFIG_MAPPING[model_type].from_dict(values)


def _check_counts(config: Mapping[str, Any], *, num_tensors: int, where: str) -> None:
    """Refuse counts that transformers would allocate by, in parts of a config and in lists, too."""
    rules = ((_LAYERS, max(_USUAL_LAYERS, num_tensors)), (_LABELS, _MOST_LABELS))
    for key, value in _integers(config):
        most = min((limit for ends, limit in rules if ends.search(key)), default=value)
        if value > most:
            raise ConfigError(
                f"{where}: config.json: `{key}` is {shown(value)}, and there are {num_tensors} tensors. They "
                "are not of one model: fetch both again."
            )


def _integers(config: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """All of a config by their keys, `vision_config.num_hidden_layers`; those of a list have the list's.

    Of keys the ends are kept: one of megabytes may have many values below it.
    """
    waiting: list[tuple[str, Any]] = [("", config)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, Mapping):
            place = f"{key}." if key else ""
            waiting += [((place + name[-_LONGEST:])[-_LONGEST:], inner) for name, inner in value.items()]
        elif isinstance(value, list):
            waiting += [(key, inner) for inner in value]
        elif isinstance(value, int):
            yield key, value
