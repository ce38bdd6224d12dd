"""What losses of embeddings share.

Source: sentence-transformers 6.2, util/similarity.py and util/tensor.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor

from biject.errors import InputError


class EmbeddingLoss(Protocol):
    """One number of a batch's embeddings."""

    @property
    def mini_batch_size(self) -> int | None:
        """Texts that are embedded at once, where gradients are cached; None where a batch is one call."""

    def __call__(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """The loss of one (B, D) tensor a column, and (B,) labels where the loss takes some."""


def cos_sim(a_AD: Tensor, b_BD: Tensor) -> Tensor:
    """Cosines of all pairs, (A, B)."""
    return F.normalize(a_AD, dim=-1) @ F.normalize(b_BD, dim=-1).transpose(0, 1)


def pairwise_cos_sim(a_BD: Tensor, b_BD: Tensor) -> Tensor:
    """Cosines of rows, (B,)."""
    return (F.normalize(a_BD, dim=-1) * F.normalize(b_BD, dim=-1)).sum(-1)


def columns_of(embeddings: Sequence[Tensor], counts: tuple[int, int | None], name: str) -> Sequence[Tensor]:
    """The embeddings, if there are as many columns as a loss takes.

    Raises:
        InputError: There are more or fewer.
    """
    least, most = counts
    if len(embeddings) < least or (most is not None and len(embeddings) > most):
        wanted = f"{least}" if most == least else f"{least} or more" if most is None else f"{least} to {most}"
        raise InputError(f"{name} takes {wanted} columns of texts, found {len(embeddings)}.")
    return embeddings


def labels_of(embeddings: Tensor, labels: Tensor | None, name: str) -> Tensor:
    """Labels as (B,).

    Raises:
        InputError: There are none, or not one a row.
    """
    if labels is None or labels.numel() != len(embeddings):
        found = "none" if labels is None else str(labels.numel())
        raise InputError(f"{name} takes one label a row, {len(embeddings)} here; found {found}.")
    return labels.view(-1)
