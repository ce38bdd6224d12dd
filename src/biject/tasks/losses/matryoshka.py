"""The same loss over the first values of each vector, for several lengths.

Source: sentence-transformers 6.2, losses/matryoshka.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from biject.errors import ConfigError, InputError
from biject.tasks.losses.common import EmbeddingLoss


class MatryoshkaLoss:
    """A weighted sum of one loss over vectors cut to several lengths.

    Args:
        loss: What is computed of each length.
        dims: The lengths.
        weights: One a length; 1 each where left out.

    Raises:
        ConfigError: A length below 1, or not as many weights as lengths.
    """

    def __init__(
        self, loss: EmbeddingLoss, dims: Sequence[int], weights: Sequence[float] | None = None
    ) -> None:
        if not dims or min(dims) < 1:
            raise ConfigError(f"Matryoshka dimensions should be at least 1, found {list(dims)}.")
        weights = [1.0] * len(dims) if weights is None else weights
        if len(weights) != len(dims):
            raise ConfigError(f"Matryoshka takes one weight a dimension: {len(dims)}, found {len(weights)}.")
        self.loss = loss
        self.steps = sorted(zip(dims, weights, strict=True), key=lambda step: -step[0])

    @property
    def mini_batch_size(self) -> int | None:
        """That of the loss."""
        return self.loss.mini_batch_size

    def __call__(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """The weighted sum, longest vectors first."""
        width = embeddings[0].shape[-1]
        if self.steps[0][0] > width:
            raise InputError(
                f"A Matryoshka dimension is {self.steps[0][0]}; the model's vectors have {width} values."
            )
        total: Tensor | None = None
        cut = list(embeddings)
        for dim, weight in self.steps:
            if self.mini_batch_size is not None:
                cut = list(embeddings)  # the cached loss cuts the vectors themselves, the other what it had
            cut = [F.normalize(rows[..., :dim], dim=-1) for rows in cut]
            part = weight * self.loss(cut, labels)
            total = part if total is None else total + part
        assert total is not None
        return total
