"""Losses of triplets, given or found among labelled texts.

Source: sentence-transformers 6.2, losses/triplet.py, batch_all_triplet.py, batch_hard_triplet.py,
batch_hard_soft_margin_triplet.py and batch_semi_hard_triplet.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from biject.tasks.losses.common import columns_of, labels_of


@dataclass(frozen=True, kw_only=True)
class TripletLoss:
    """The anchor is closer to the positive than to the negative, by a margin (Euclidean)."""

    margin: float = 5.0
    mini_batch_size: ClassVar[None] = None

    def __call__(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """The mean over anchors, positives, negatives."""
        anchor, positive, negative = columns_of(embeddings, (3, 3), "TripletLoss")
        near = torch.linalg.vector_norm(anchor - positive, dim=-1)
        far = torch.linalg.vector_norm(anchor - negative, dim=-1)
        return F.relu(near - far + self.margin).mean()


@dataclass(frozen=True, kw_only=True)
class _Labelled:
    """A loss of one column with a class a row; a batch needs at least two rows of one class."""

    margin: float = 5.0
    mini_batch_size: ClassVar[None] = None

    def __call__(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """The loss of one column."""
        (rows_BD,) = columns_of(embeddings, (1, 1), type(self).__name__)
        return self.of(labels_of(rows_BD, labels, type(self).__name__), distances(rows_BD))

    def of(self, labels_B: Tensor, far_BB: Tensor) -> Tensor:
        """By labels and distances."""
        raise NotImplementedError


class BatchAllTripletLoss(_Labelled):
    """The mean over all triplets of the batch that are too close."""

    def of(self, labels_B: Tensor, far_BB: Tensor) -> Tensor:
        """By labels and distances."""
        anchors, positives = _same(labels_B).nonzero(as_tuple=True)
        lost = far_BB[anchors, positives].unsqueeze(1) - far_BB[anchors] + self.margin
        other = labels_B[anchors].unsqueeze(1) != labels_B.unsqueeze(0)
        lost = other.float() * lost
        lost = lost.masked_fill(lost < 0, 0)
        return lost.sum() / (len(lost[lost > 1e-16]) + 1e-16)


class BatchHardTripletLoss(_Labelled):
    """For each text the farthest of its class against the nearest of another."""

    def of(self, labels_B: Tensor, far_BB: Tensor) -> Tensor:
        """By labels and distances."""
        positive_B1, negative_B1 = _hardest(labels_B, far_BB)
        lost = positive_B1 - negative_B1 + self.margin
        return lost.masked_fill(lost < 0, 0).mean()


class BatchHardSoftMarginTripletLoss(_Labelled):
    """The same with softplus instead of a margin."""

    def of(self, labels_B: Tensor, far_BB: Tensor) -> Tensor:
        """By labels and distances."""
        positive_B1, negative_B1 = _hardest(labels_B, far_BB)
        return F.softplus(positive_B1 - negative_B1).mean()


class BatchSemiHardTripletLoss(_Labelled):
    """For each pair of a class the nearest of another that is farther, else the farthest there is."""

    def of(self, labels_B: Tensor, far_BB: Tensor) -> Tensor:
        """By labels and distances."""
        same_BB = labels_B.unsqueeze(1) == labels_B.unsqueeze(0)
        ordered = far_BB.masked_fill(same_BB, torch.inf).sort(dim=1, stable=True).values
        places = torch.searchsorted(ordered.detach().contiguous(), far_BB.detach().contiguous(), right=True)
        outside = ordered.gather(1, places.clamp(max=len(labels_B) - 1))
        lowest = far_BB.min(1, keepdim=True).values
        inside = ((far_BB - lowest) * ~same_BB).max(1, keepdim=True).values + lowest
        negatives = torch.where(torch.isfinite(outside), outside, inside)
        lost = (far_BB - negatives) + self.margin
        positives = same_BB.float() - torch.eye(len(labels_B), device=labels_B.device)
        total = torch.max(lost * positives, lost.new_zeros(1)).sum()
        return total / positives.sum().clamp(min=1e-16)


def distances(rows_BD: Tensor) -> Tensor:
    """Euclidean distances of all pairs, (B, B), with a gradient of 0 where two are the same."""
    with torch.autocast(device_type=rows_BD.device.type, enabled=False):
        wide = rows_BD.float() if rows_BD.dtype in (torch.float16, torch.bfloat16) else rows_BD
        products = torch.matmul(wide, wide.t())
    squares = torch.diag(products)
    far = squares.unsqueeze(0) - 2.0 * products + squares.unsqueeze(1)
    far = far.masked_fill(far < 0, 0)
    none = far.eq(0).float()
    return (1.0 - none) * torch.sqrt(far + none * 1e-16)


def _same(labels_B: Tensor) -> Tensor:
    """Pairs of two texts of one class."""
    itself = torch.eye(len(labels_B), dtype=torch.bool, device=labels_B.device)
    return (labels_B.unsqueeze(0) == labels_B.unsqueeze(1)) & ~itself


def _hardest(labels_B: Tensor, far_BB: Tensor) -> tuple[Tensor, Tensor]:
    """For each text the distance of the farthest of its class, and of the nearest of another: (B, 1) each."""
    positive = (_same(labels_B).float() * far_BB).max(1, keepdim=True).values
    other = (labels_B.unsqueeze(0) != labels_B.unsqueeze(1)).float()
    largest = far_BB.max(1, keepdim=True).values
    negative = (far_BB + largest * (1.0 - other)).min(1, keepdim=True).values
    return positive, negative
