"""Losses of scored pairs.

Source: sentence-transformers 6.2, losses/cosent.py and losses/cosine_similarity.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from biject.tasks.losses.common import columns_of, labels_of, pairwise_cos_sim


@dataclass(frozen=True, kw_only=True)
class CoSENTLoss:
    """log(1 + Σ exp(s_i - s_j)) over pairs of rows where j has the higher score.

    Attributes:
        scale: What cosines are multiplied with.
    """

    scale: float = 20.0
    mini_batch_size: ClassVar[None] = None

    def __call__(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """The loss of two columns and their scores."""
        first, second = columns_of(embeddings, (2, 2), "CoSENTLoss")
        scores_B = pairwise_cos_sim(first, second) * self.scale
        labels_B, order_B = labels_of(first, labels, "CoSENTLoss").sort()
        scores_B = scores_B[order_B]
        higher_B = torch.searchsorted(labels_B, labels_B, right=True)  # ties have no order
        sums = torch.logcumsumexp(-scores_B.flip(0), dim=0).flip(0)
        sums = torch.cat((sums, scores_B.new_full((1,), -torch.inf)))
        return torch.logsumexp(torch.cat((scores_B.new_zeros(1), scores_B + sums[higher_B])), dim=0)


@dataclass(frozen=True, kw_only=True)
class CosineSimilarityLoss:
    """The mean squared difference of cosines and scores."""

    mini_batch_size: ClassVar[None] = None

    def __call__(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """The loss of two columns and their scores."""
        first, second = columns_of(embeddings, (2, 2), "CosineSimilarityLoss")
        scores_B = labels_of(first, labels, "CosineSimilarityLoss").float()
        return F.mse_loss(torch.cosine_similarity(first, second), scores_B)
