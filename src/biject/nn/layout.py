"""Layouts: where the rows of a batch stand. Linears, norms and activations see rows only and never ask.

`Padded` keeps HF's grid: `batch × length` rows, pads too, so that every row and every random draw is HF's.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Padded:
    """A full grid of rows: row `b * length + l` is token `l` of text `b`."""

    batch: int
    length: int
    mask_BL: Tensor | None  # noqa: N815
    """True where a token is real; None if all are."""

    def rows(self, x_BLD: Tensor) -> Tensor:
        """Grid to rows: (B, L, D) → (T, D), a view where the grid is contiguous."""
        return x_BLD.reshape(self.batch * self.length, x_BLD.shape[-1])

    def grid(self, x_TD: Tensor) -> Tensor:
        """Rows to grid: (T, D) → (B, L, D), a view."""
        return x_TD.view(self.batch, self.length, x_TD.shape[-1])

    def first(self, x_TD: Tensor) -> Tensor:
        """The row of each text's first column, masked or not, as HF pools: (T, D) → (B, D)."""
        return self.grid(x_TD)[:, 0]

    def heads(self, x_TD: Tensor, num_heads: int) -> Tensor:
        """Rows to heads: (T, H·E) → (B, H, L, E), a view."""
        return x_TD.view(self.batch, self.length, num_heads, -1).transpose(1, 2)

    def key_mask(self) -> Tensor | None:
        """What every query may look at: (B, 1, L, L), True where the key is real, or None."""
        if self.mask_BL is None:
            return None
        return self.mask_BL[:, None, None, :].expand(self.batch, 1, self.length, self.length)

    def pair_mask(self) -> Tensor | None:
        """True where query and key are both real: (B, 1, L, L), or None."""
        if self.mask_BL is None:
            return None
        return self.mask_BL[:, None, :, None] & self.mask_BL[:, None, None, :]
