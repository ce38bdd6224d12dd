"""Texts in pieces, and pieces in blocks: documents that share a batch's row of tokens and nothing else.

A block is only a way to fill batches evenly. Its documents stay documents: each has its own positions from 0
and sees nothing of the others, because what the model is given is either one row a document (`documents`,
which `Collator` does) or the row of tokens with positions that restart (`flatten`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from biject.data.dataset import IGNORED, Dataset, Ids, Sample
from biject.errors import InputError

LENGTHS = "document_lengths"
"""Of a block: tokens of each of its documents, in order."""


class CausalDataset(Dataset):
    """Token ids, and labels that are the same ids where they are to be learned and -100 elsewhere.

    Labels stand where their tokens stand: the model shifts them, so the first of a row is never learned.

    Attributes:
        chat_template: What conversations were rendered by, where that is not the tokenizer's own.
    """

    def __init__(
        self, ids: Ids, labels: Ids, *, rows: Sequence[int], chat_template: str | None = None
    ) -> None:
        super().__init__("causal", {"input_ids": ids, "labels": labels}, rows=rows)
        self.ids, self.targets = ids, labels
        self.chat_template = chat_template


class PackedDataset(CausalDataset):
    """Blocks of documents.

    Attributes:
        pieces: The documents, or parts of documents, one a sample.
        groups: Which pieces each block holds.
    """

    def __init__(self, pieces: CausalDataset, groups: Sequence[range]) -> None:
        super().__init__(pieces.ids, pieces.targets, rows=(), chat_template=pieces.chat_template)
        self.pieces, self.groups = pieces, groups
        self.lengths = [sum(pieces.lengths[i] for i in group) for group in groups]
        self.rows = [pieces.rows[group.start] for group in groups]

    def digest_into(self, digest: Any) -> None:
        """The pieces, and which of them a block holds."""
        super().digest_into(digest)
        digest.update(repr([(group.start, group.stop) for group in self.groups]).encode())

    def sample(self, index: int) -> Sample:
        """One block: ids and labels end to end, positions that restart, and where documents end."""
        found = [self.pieces.sample(i) for i in self.groups[index]]
        return {
            "input_ids": [token for piece in found for token in piece["input_ids"]],
            "labels": [label for piece in found for label in piece["labels"]],
            "position_ids": [place for piece in found for place in range(len(piece["input_ids"]))],
            LENGTHS: [len(piece["input_ids"]) for piece in found],
        }


def cut(length: int, limit: int | None, *, shared: int = 1, room: int | None = None) -> Iterator[range]:
    """The pieces of a text of `length` tokens; each repeats the last `shared` tokens of the one before.

    With one shared token, which is read and not learned, every token but a text's first is learned once.

    Args:
        length: Of the text.
        limit: Tokens of a piece; None for no limit.
        shared: At least 1, and fewer than `limit`.
        room: Of the first piece, where that is less than `limit`.
    """
    assert shared >= 1
    assert all(most is None or most > shared for most in (limit, room))
    start, end = 0, min(length, room or limit or length)
    while True:
        yield range(start, end)
        if end >= length:
            return
        start = end - shared
        end = min(length, start + (limit or length))


def check_shared(shared: int, limit: int | None) -> None:
    """Raise `InputError` unless pieces of `limit` tokens can share `shared`."""
    if shared < 1 or (limit is not None and shared >= limit):
        most = "" if limit is None else f" and below the limit of {limit}"
        raise InputError(f"stride: pieces of a text share at least 1 token{most}; found {shared}.")


def group(lengths: Sequence[int], limit: int) -> list[range]:
    """Neighbours that fit into blocks of `limit` tokens together, nothing cut."""
    groups, start, total = [], 0, 0
    for index, length in enumerate(lengths):
        if total and total + length > limit:
            groups.append(range(start, index))
            start, total = index, 0
        total += length
    return [*groups, range(start, len(lengths))] if lengths else []


def packed(pieces: CausalDataset, limit: int) -> tuple[PackedDataset, str]:
    """Neighbouring pieces in blocks of up to `limit` tokens; and how full these are, in words."""
    dataset = PackedDataset(pieces, group(pieces.lengths, limit))
    share = 100 * sum(dataset.lengths) / (limit * len(dataset))
    return (
        dataset,
        f"{len(pieces)} documents in {len(dataset)} blocks of {limit} tokens, which are {share:.1f} % full",
    )


def documents(samples: Sequence[Mapping[str, Any]]) -> list[Sample]:
    """Blocks as one sample a document; samples that are no blocks stay as they are."""
    found: list[Sample] = []
    for sample in samples:
        if LENGTHS not in sample:
            found.append(dict(sample))
            continue
        start = 0
        for length in sample[LENGTHS]:
            part = slice(start, start + length)
            found.append({name: sample[name][part] for name in ("input_ids", "labels")})
            start += length
    return found


def flatten(samples: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """All documents of some samples end to end, as HF's `DataCollatorWithFlattening` has them.

    Shape:
        `input_ids`, `labels` and `position_ids`: (1, tokens). Positions start at 0 with each document, whose
        first label is -100, so that no document is learned from the one before.

    Source: transformers 5.23, data/data_collator.py.
    """
    parts = documents(samples)
    ids = [token for part in parts for token in part["input_ids"]]
    labels = [label for part in parts for label in (IGNORED, *part["labels"][1:])]
    places = [place for part in parts for place in range(len(part["input_ids"]))]
    columns = {"input_ids": ids, "labels": labels, "position_ids": places}
    return {name: torch.tensor([values]) for name, values in columns.items()}
