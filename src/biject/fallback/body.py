"""`FallbackBody`: transformers' own model, with what our Trainer and tasks ask of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from biject.checkpoint.source import Source
from biject.errors import InputError
from biject.events import notice
from biject.fallback.identity import FallbackIdentity, accepted
from biject.fallback.view import FallbackConfig

_MAY_BE_LEFT_OUT = ("attention_mask", "token_type_ids")
"""What collators give, and some classes have no argument for."""


class FallbackBody(nn.Module):
    """transformers' model, called as ours are.

    Attributes:
        hf: transformers' model, or PEFT's around it; `hf.config` is its config.
        config: of that config what our code asks for, by our names.
        hf_config: config.json as read, with a new head's labels.
        head_name: `base`, `seqcls`, `tokcls`, `qa`, `mlm`, `causal` or `imgcls`.
        source: the folder that it was loaded from.
        file_dtype: the widest of the file.
        fresh: names of the parameters that started random.
        left_out: tensors of the file that the class has no use for.
        tokenizer: none; it is the source's.
        adapters: the names of PEFT's adapters, or None.
        takes: names of the class's arguments.
        base_prefix: what names of the base model's parameters have before them inside of `hf`.
    """

    name_prefix = "hf."
    """What our names of parameters have before transformers'."""

    def __init__(
        self,
        hf: nn.Module,
        identity: FallbackIdentity,
        source: Source,
        *,
        file_dtype: torch.dtype,
        fresh: tuple[str, ...] = (),
        left_out: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.hf: Any = hf
        self.identity = identity
        self.source = source
        self.file_dtype = file_dtype
        self.fresh, self.left_out = fresh, left_out
        self.config: FallbackConfig = identity.config
        self.hf_config: Mapping[str, Any] = identity.hf_config
        self.head_name = identity.head
        self.class_name: str = identity.kind.__name__
        self.tokenizer = None
        self.adapters: tuple[str, ...] | None = None
        self.takes = accepted(identity.kind)
        self.base_prefix = f"{getattr(identity.kind, 'base_model_prefix', '')}."

    def forward(
        self, input_ids: Tensor | None = None, *, logits_at: Tensor | None = None, **inputs: Any
    ) -> Any:
        """Transformers' outputs for its arguments; what is None is not given.

        Args:
            input_ids: (B, L) token ids.
            logits_at: (B, L), True where a language model's logits are needed: all are computed, and these
                given as (K, V).
            inputs: Further arguments by transformers' names.

        Raises:
            InputError: The class has no such argument, or cannot compute this batch.
        """
        given = {"input_ids": input_ids, **inputs}
        call = {name: value for name, value in given.items() if value is not None}
        for name in [name for name in call if name not in self.takes]:
            if name not in _MAY_BE_LEFT_OUT:
                raise InputError(
                    f"{self.class_name} has no argument `{name}`; it takes {', '.join(self.takes)}."
                )
            self._notice_left_out(name, call.pop(name))
        output = self._computed(call)
        if logits_at is not None:
            output["logits"] = output.logits[logits_at]
        return output

    def _computed(self, call: Mapping[str, Any]) -> Any:
        try:
            return self.hf(**call)
        except torch.OutOfMemoryError:
            raise
        except (
            AssertionError,
            IndexError,
            NotImplementedError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:
            sizes = ", ".join(f"{n} {tuple(v.shape)}" for n, v in call.items() if isinstance(v, Tensor))
            raise InputError(
                f"{self.class_name} of transformers cannot compute this batch ({sizes}): "
                f"{type(error).__name__}: {str(error)[:500]}"
            ) from error

    def _notice_left_out(self, name: str, value: Tensor) -> None:
        if name == "attention_mask" and not bool(value.all()):
            notice(
                "no-mask",
                f"{self.class_name} has no argument `attention_mask`: it reads padding as text, as it does "
                "in transformers.",
            )

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameters."""
        return next(self.parameters()).dtype

    @property
    def id2label(self) -> dict[int, str]:
        """Names of the outputs."""
        return self.config.id2label

    @property
    def attention(self) -> str:
        """Transformers' attention backend that computes."""
        return str(self.hf.config._attn_implementation)

    def num_parameters(self, only_trainable: bool = False) -> int:
        """How many numbers the parameters hold."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad or not only_trainable)

    def gradient_checkpointing_enable(self, **options: Any) -> None:
        """Transformers' own."""
        self.hf.gradient_checkpointing_enable(**options)

    def gradient_checkpointing_disable(self) -> None:
        """Transformers' own."""
        self.hf.gradient_checkpointing_disable()

    def get_input_embeddings(self) -> nn.Module:
        """The token table."""
        found: nn.Module = self.hf.get_input_embeddings()
        return found

    def generate(self, *arguments: Any, **options: Any) -> Any:
        """Transformers' own `generate`."""
        return self.hf.generate(*arguments, **options)
