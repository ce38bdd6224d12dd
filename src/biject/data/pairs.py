"""`PairDataset` and `PairCollator`: samples of two texts, and batches of all chosen, then all rejected."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from biject.data.blocks import LENGTHS
from biject.data.collate import Collator
from biject.data.columns import columns_alone
from biject.data.dataset import IGNORED, Dataset, Ids, Sample

REJECTED, PROMPT_LENGTH, MARGIN = "rejected_ids", "prompt_length", "margin"
REFERENCE = ("ref_chosen_logps", "ref_rejected_logps")
"""Log-probabilities of both completions by the reference, under TRL's names."""


class PairDataset(Dataset):
    """Pairs of texts: `input_ids` is the chosen one, `rejected_ids` the other.

    Args:
        task: `dpo`, where both begin with a prompt, or `reward`.
        chosen: Of each pair, with its prompt.
        rejected: The same.
        rows: Of the table.
        prompts: Tokens of each prompt (dpo).
        margins: By how much each chosen text is better (reward).
        labels: Names of the head's outputs.
        chat_template: What conversations were rendered by, where that is not the tokenizer's own.
    """

    computed = REFERENCE
    made_by = ""

    def __init__(
        self,
        task: str,
        chosen: Ids,
        rejected: Ids,
        *,
        rows: Sequence[int],
        prompts: Sequence[int] | None = None,
        margins: Sequence[float] | None = None,
        labels: Sequence[str] = (),
        chat_template: str | None = None,
    ) -> None:
        columns: dict[str, Ids | Sequence[Any]] = {"input_ids": chosen, REJECTED: rejected}
        if prompts is not None:
            columns[PROMPT_LENGTH] = prompts
        if margins is not None:
            columns[MARGIN] = margins
        super().__init__(task, columns, rows=rows, labels=labels)
        self.chat_template = chat_template
        self.both = [(len(a), len(b)) for a, b in zip(chosen.rows, rejected.rows, strict=True)]
        """Tokens of both texts."""
        self.lengths = [a + b for a, b in self.both]

    def with_reference(
        self, chosen: Sequence[float], rejected: Sequence[float], *, made_by: str = ""
    ) -> PairDataset:
        """A copy whose samples have the reference's log-probabilities.

        Args:
            chosen: Of chosen completions.
            rejected: Of rejected ones.
            made_by: What the reference is known by: another one makes other data, its last bits do not.
        """
        new = copy.copy(self)
        new.made_by = made_by
        new._columns = {**self._columns, **dict(zip(REFERENCE, (chosen, rejected), strict=True))}
        return new

    def digest_into(self, digest: Any) -> None:
        """Feed a digest of `hashlib` with everything that samples are made of."""
        super().digest_into(digest)
        digest.update(self.made_by.encode())

    def whole_texts(self, index: int) -> Sample:
        """Both texts of a pair as documents of one block, to look at."""
        both = texts_of(self.sample(index))
        ids, labels = (
            [one for text in both for one in text.get(name, [IGNORED] * len(text["input_ids"]))]
            for name in ("input_ids", "labels")
        )
        return {"input_ids": ids, "labels": labels, LENGTHS: [len(text["input_ids"]) for text in both]}

    @property
    def learned_share(self) -> float:
        """Of all tokens, those behind prompts."""
        prompts: Any = self._columns.get(PROMPT_LENGTH)
        return 0.0 if prompts is None else 1 - 2 * sum(prompts) / max(1, sum(self.lengths))


def is_pair(sample: Any) -> bool:
    """Whether a sample is a pair of texts."""
    return isinstance(sample, Mapping) and REJECTED in sample


def texts_of(sample: Mapping[str, Any]) -> tuple[Sample, Sample]:
    """Both texts of a pair as samples of their own, with labels behind a prompt (dpo)."""
    found = []
    for ids in (sample["input_ids"], sample[REJECTED]):
        text: Sample = {"input_ids": ids}
        if PROMPT_LENGTH in sample:
            before = min(sample[PROMPT_LENGTH], len(ids))
            text["labels"] = [IGNORED] * before + list(ids[before:])
        found.append(text)
    return found[0], found[1]


def single_texts(samples: Sequence[Any], most: int) -> Sequence[Any]:
    """Samples that a model takes as they are: of pairs both texts, at most so many of them."""
    first = samples[0].get("input_ids") if len(samples) else None  # pictures have none
    if first and isinstance(first[0], list):  # several columns of texts
        return columns_alone(samples, most)
    if not len(samples) or not is_pair(samples[0]):
        return samples
    return [text for i in range(min(len(samples), most // 2)) for text in texts_of(samples[i])]


@dataclass(frozen=True, kw_only=True)
class PairCollator:
    """Makes batches of pairs: 2 B rows, the chosen ones first (TRL's DataCollatorForPreference).

    Attributes:
        single: Makes batches of texts.
    """

    single: Collator

    def __call__(self, samples: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """A batch of tensors; samples that are no pairs are collated as they are.

        Returns:
            `input_ids`, `attention_mask`, for dpo `labels`: (2 B, L); `margin` and the reference's
            log-probabilities, where the samples have them: (B,).

        Raises:
            InputError: The samples do not fit together.
        """
        if not samples or not is_pair(samples[0]):
            return self.single(samples)
        chosen, rejected = zip(*map(texts_of, samples), strict=True)
        batch = self.single([*chosen, *rejected])
        for name in (MARGIN, *REFERENCE):
            if name in samples[0]:
                batch[name] = torch.tensor([sample[name] for sample in samples], dtype=torch.float32)
        return batch
