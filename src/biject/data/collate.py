"""Samples to a batch of tensors, padded to the longest, as HF's data collators pad.

Source: transformers 5.23, data/data_collator.py (DataCollatorWithPadding and
DataCollatorForTokenClassification).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from biject.data.blocks import documents
from biject.data.dataset import IGNORED
from biject.errors import InputError
from biject.tokenization.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Collator:
    """Pads samples to a batch; blocks become one row a document.

    Attributes:
        pad_token_id: What `input_ids` are padded with; None where there is no padding token, which samples
            of one length do without.
        padding_side: The side of the padding.
        pad_to_multiple_of: Round the length up.
        segments: Give `token_type_ids` where the samples have them.
    """

    pad_token_id: int | None
    padding_side: Literal["right", "left"] = "right"
    pad_to_multiple_of: int | None = None
    segments: bool = True

    @classmethod
    def of(cls, tokenizer: Tokenizer, **options: Any) -> Collator:
        """A collator that pads as a tokenizer does; `options` are further attributes."""
        side: Literal["right", "left"] = "left" if tokenizer.padding_side == "left" else "right"
        return cls(pad_token_id=tokenizer.pad_token_id, padding_side=side, **options)

    @classmethod
    def for_causal(cls, tokenizer: Tokenizer, **options: Any) -> Collator:
        """A collator to train a causal model with: it pads on the right, with any token there is.

        Without a padding token it is the end-of-text token. Padding is known by its place, never by its id:
        the end-of-text token that a text has is learned.
        """
        usual = (tokenizer.pad_token_id, tokenizer.eos_token_id)
        pad = next((token for token in usual if token is not None), 0)
        return cls(pad_token_id=pad, **options)

    def __call__(self, samples: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """A batch of tensors.

        Args:
            samples: With `input_ids`; lists as long as these are padded (labels with -100, anything else
                with 0), other numbers and lists of numbers are stacked. Floats become float32, integers
                int64.

        Returns:
            The samples' names, and `attention_mask`; `label` and `label_ids` are called `labels`.

        Raises:
            InputError: The samples do not fit together, or there is no padding token and one is needed.
        """
        samples = documents(samples)
        if not samples:
            raise InputError("A batch needs samples, found none.")
        lengths = [len(sample["input_ids"]) for sample in samples]
        total, left = self._total(lengths), self.padding_side == "left"
        batch: dict[str, Tensor] = {}
        for name in samples[0]:
            if name == "token_type_ids" and not self.segments:
                continue
            values = [sample[name] for sample in samples]
            if _is_by_token(name, values, lengths):
                fill = {"input_ids": self.pad_token_id or 0, "labels": IGNORED}.get(name, 0)
                batch[name] = _padded(values, total, fill, left)
            else:
                batch[name] = _stacked(name, values)
                if left and name in ("start_positions", "end_positions"):
                    batch[name] += torch.tensor([total - length for length in lengths])
        if "attention_mask" not in batch:
            batch["attention_mask"] = _padded([[1] * length for length in lengths], total, 0, left)
        for name in ("label", "label_ids"):
            if name in batch and "labels" not in batch:
                batch["labels"] = batch.pop(name)
        return batch

    def _total(self, lengths: Sequence[int]) -> int:
        """Columns of a batch."""
        multiple = self.pad_to_multiple_of or 1
        total = -(-max(lengths) // multiple) * multiple
        if self.pad_token_id is None and min(lengths) < total:
            raise InputError(
                f"Samples of {min(lengths)} to {max(lengths)} tokens need a padding token to share a batch, "
                "and the tokenizer has none. Name one as `pad_token` in tokenizer_config.json, or use "
                "batches of 1."
            )
        return total


def _is_by_token(name: str, values: Sequence[Any], lengths: Sequence[int]) -> bool:
    """Whether a name's values are lists of one integer a token."""
    if not isinstance(values[0], list | tuple):
        return False
    if name == "labels" and any(isinstance(value, float) for value in values[0]):
        return False
    fits = [len(value) == length for value, length in zip(values, lengths, strict=True)]
    if all(fits):
        return True
    if len({len(value) for value in values}) == 1:
        return False
    wrong = fits.index(False)
    raise InputError(
        f"Sample {wrong} of a batch: `{name}` should have as many values as there are tokens "
        f"({lengths[wrong]}), found {len(values[wrong])}."
    )


def _padded(rows: Sequence[Sequence[int]], total: int, fill: int, left: bool) -> Tensor:
    grid = torch.full((len(rows), total), fill, dtype=torch.long)
    for place, row in enumerate(rows):
        start = total - len(row) if left else 0
        grid[place, start : start + len(row)] = torch.tensor(row, dtype=torch.long)
    return grid


def _stacked(name: str, values: Sequence[Any]) -> Tensor:
    try:
        tensor = torch.tensor(values)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"`{name}` of a batch: expected numbers, one form for all samples: {error}."
        ) from error
    return tensor.to(torch.float32 if tensor.is_floating_point() else torch.long)
