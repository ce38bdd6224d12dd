"""The last layer of a prompt, where the next token alone is asked for: one column of each text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from biject.nn.layout import AttentionBucket, Padded


@dataclass(frozen=True, kw_only=True, eq=False)
class LastColumn(Padded):
    """A grid without padding, of which the last column is needed: (B · L, D) goes in, (B, D) comes out."""

    device: torch.device

    def queries(self, x_TD: Tensor) -> Tensor:
        """The last column's rows."""
        return self.grid(x_TD)[:, -1]

    @cached_property
    def buckets(self) -> tuple[AttentionBucket, ...]:
        """One bucket: the last column looks at all."""
        (whole,) = Padded(batch=self.batch, length=self.length, mask_BL=None).buckets
        last_B = torch.arange(1, self.batch + 1, device=self.device) * self.length - 1
        return (
            AttentionBucket(
                batch=self.batch, queries=1, keys=self.length,
                query_rows=last_B, key_rows=whole.key_rows, real_BK=None,
            ),
        )  # fmt: skip

    def query_grids(self, x_TD: Tensor) -> list[Tensor]:
        """(B, 1, D)."""
        return [self.grid(x_TD)[:, -1:]]

    def key_grids(self, x_TD: Tensor) -> list[Tensor]:
        """(B, L, D)."""
        return [self.grid(x_TD)]

    def unbucket(self, contexts: Sequence[Tensor]) -> Tensor:
        """(B, 1, D) → (B, D)."""
        return contexts[0].flatten(0, 1)
