"""Which collator makes a task's batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from biject.config.model import ModelConfig
from biject.config.tasks import PREFERENCES, head_of
from biject.data.collate import Collator
from biject.data.columns import ColumnCollator
from biject.data.pairs import PairCollator
from biject.fallback.view import FallbackConfig
from biject.tokenization.tokenizer import Tokenizer

MakeBatch = Callable[[Sequence[Mapping[str, Any]]], dict[str, Tensor]]
"""Makes a batch of samples."""


def collator_of(task: str, tokenizer: Tokenizer, config: ModelConfig | FallbackConfig) -> MakeBatch:
    """The collator of a task's samples; pairs are padded on the right, as TRL pads them."""
    segments = config.embedding.type_vocab_size > 1
    if task == "embed":
        return ColumnCollator.of(tokenizer, segments=segments)
    if task not in PREFERENCES:
        make = Collator.for_causal if head_of(task) == "causal" else Collator.of
        return make(tokenizer, segments=segments)
    single = Collator.for_causal(tokenizer, segments=segments)
    if task == "reward" and config.pad_token_id is not None:  # what the head tells a text's end by
        single = replace(single, pad_token_id=config.pad_token_id)
    return PairCollator(single=single)
