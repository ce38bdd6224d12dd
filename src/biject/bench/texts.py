"""Texts of lengths as they come, in batches as each side makes them. The ids are random."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

Batch = dict[str, Tensor]

SNIPPETS = (6, 10, 12, 13, 14, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34,
            36, 37, 38, 40, 43, 45, 49, 72)  # fmt: skip
"""Lengths of 4,000 movie snippets in MiniLM's tokens, by 32nds of them (rt-polarity, Pang and Lee 2005)."""
MIXED = (82, 11, 12, 13, 14, 15, 17, 18, 20, 22, 24, 26, 30, 34, 39, 46)
"""A batch of uneven texts, padded/real 3.1."""
POOL, BATCH, LONGEST = 800, 16, 512


def lengths(kind: str, count: int, draw: torch.Generator) -> list[int]:
    """`snippets`, `mixed` (the same in every batch), `long-tailed` to 512 (most short, few very long), or
    `equal` (all 512).
    """
    if kind == "mixed":
        blocks = [torch.randperm(BATCH, generator=draw).tolist() for _ in range(count // BATCH)]
        return [MIXED[at] for block in blocks for at in block]
    if kind == "equal":
        return [LONGEST] * count
    if kind == "long-tailed":  # log-normal, as lengths of comments and pages are
        drawn = torch.randn(count, generator=draw).mul(0.9).add(4.0).exp()
        return [int(length) for length in drawn.clamp(8, LONGEST)]
    at = torch.rand(count, generator=draw) * (len(SNIPPETS) - 1)
    low = at.long()
    table = torch.tensor(SNIPPETS, dtype=torch.float32)
    return [int(length) for length in table[low] + (table[low + 1] - table[low]) * (at - low)]


def given_order(pool: list[int], count: int) -> list[list[int]]:
    """`count` batches that follow each other, as the texts come; of full length, few of them fill one.

    Those whose tokens are nearest to the pool's mean: a step's fixed costs are shared by its tokens.
    """
    size = BATCH if min(pool) < LONGEST else BATCH // 8
    mean, texts = sum(pool) / len(pool), count * size
    starts = range(0, len(pool) - texts + 1, size)
    at = min(starts, key=lambda start: abs(sum(pool[start : start + texts]) - mean * texts))
    return [pool[start : start + size] for start in range(at, at + texts, size)]


def grouped(pool: list[int], count: int) -> list[list[int]]:
    """`count` batches of the whole pool sorted by length (what `group_by_length` makes), evenly apart, and
    with as many tokens as the pool's mean, as near as there are.
    """
    ordered = sorted(pool, reverse=True)
    batches = [ordered[at : at + BATCH] for at in range(0, len(ordered), BATCH)]
    step, needed = len(batches) // count, sum(pool) / len(pool) * BATCH * count
    choices = [batches[at::step][:count] for at in range(step)]
    return min(choices, key=lambda found: abs(sum(map(sum, found)) - needed))


def padded_over_real(batches: Iterable[list[int]]) -> float:
    """Cells of the padded batches for a real token."""
    listed = list(batches)
    return sum(max(batch) * len(batch) for batch in listed) / sum(map(sum, listed))


def made(batches: Iterable[list[int]], draw: torch.Generator, *, high: int, device: str) -> list[Batch]:
    """Ids, masks and labels, padded on the right."""
    found = []
    for batch in batches:
        mask = (torch.arange(max(batch))[None] < torch.tensor(batch)[:, None]).long()
        ids = torch.randint(1000, high, mask.shape, generator=draw) * mask
        labels = torch.randint(0, 2, (len(batch),), generator=draw)
        tensors = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        found.append({name: tensor.to(device) for name, tensor in tensors.items()})
    return found
