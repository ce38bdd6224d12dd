"""Layouts: where the rows of a batch stand. Linears, norms and activations see rows only and never ask.

`Padded` keeps HF's grid: `batch × length` rows, pads too, so that every row and every random draw is HF's.
`Packed` keeps the real tokens' rows only. Attention sees either as buckets of texts, see `AttentionBucket`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import torch
from torch import Tensor

from biject.nn.regroup import Places, aligned, collect, spread


@dataclass(frozen=True, kw_only=True, eq=False)
class AttentionBucket:
    """Texts that attend in one call: their first `queries` columns look at their first `keys` columns.

    Texts that are shorter are filled up with copies of a row of theirs; `real_BK` masks those.
    """

    batch: int
    queries: int
    keys: int
    query_rows: Tensor | slice
    """Which rows the queries are: (batch · queries,), text by text."""
    key_rows: Tensor | slice
    """Which rows the keys and values are: (batch · keys,), text by text."""
    real_BK: Tensor | None  # noqa: N815
    """(batch, keys), True where a key may be looked at; None if all may."""

    def query_grid(self, x_TD: Tensor) -> Tensor:
        """Rows of the query side → (batch, queries, D)."""
        return _take(x_TD, self.query_rows).view(self.batch, self.queries, x_TD.shape[-1])

    def key_grid(self, x_TD: Tensor) -> Tensor:
        """Rows of the key side → (batch, keys, D)."""
        return _take(x_TD, self.key_rows).view(self.batch, self.keys, x_TD.shape[-1])


def _take(x_TD: Tensor, rows: Tensor | slice) -> Tensor:
    return x_TD[rows] if isinstance(rows, slice) else x_TD.index_select(0, rows)


_ALL = slice(None)


@dataclass(frozen=True, kw_only=True, eq=False)
class BucketIndex:
    """All buckets of a packed batch as tensors of fixed rank, for kernels that take nothing else."""

    sizes: Tensor
    """(buckets, 3) on the CPU: batch, queries, keys."""
    query_rows: Tensor
    key_rows: Tensor
    """Rows of all buckets, one after another."""
    real: Tensor
    """True where a key is a token: (batch, keys) of each bucket, flat."""

    @property
    def buckets(self) -> tuple[AttentionBucket, ...]:
        """The same as objects."""
        found, query, key, real = [], 0, 0, 0
        for batch, queries, keys in self.sizes.tolist():
            if batch:
                found.append(
                    AttentionBucket(
                        batch=batch,
                        queries=queries,
                        keys=keys,
                        query_rows=self.query_rows[query : query + batch * queries],
                        key_rows=self.key_rows[key : key + batch * keys],
                        real_BK=self.real[real : real + batch * keys].view(batch, keys),
                    )
                )
            query, key, real = query + batch * queries, key + batch * keys, real + batch * keys
        return tuple(found)


@dataclass(frozen=True, kw_only=True, eq=False)
class Padded:
    """A full grid of rows: row `b * length + l` is token `l` of text `b`."""

    batch: int
    length: int
    mask_BL: Tensor | None  # noqa: N815
    """True where a token is real; None if all are."""

    @property
    def num_rows(self) -> int:
        """Rows that are computed."""
        return self.batch * self.length

    @property
    def num_tokens(self) -> int:
        """Rows that hold a token of the grid (a padding token counts where it is computed)."""
        return self.batch * self.length

    def pick(self, ids_BL: Tensor) -> Tensor:
        """Ids of the rows; here the grid as it is, (B, L) or (1, L)."""
        return ids_BL

    def rows(self, x_BLD: Tensor) -> Tensor:
        """Grid to rows: (B, L, D) → (T, D), a view where the grid is contiguous."""
        return x_BLD.reshape(self.batch * self.length, x_BLD.shape[-1])

    def grid(self, x_TD: Tensor) -> Tensor:
        """Rows to grid: (T, D) → (B, L, D), a view."""
        return x_TD.view(self.batch, self.length, x_TD.shape[-1])

    def first(self, x_TD: Tensor) -> Tensor:
        """The row of each text's first column, masked or not, as HF pools: (T, D) → (B, D)."""
        return self.grid(x_TD)[:, 0]

    def queries(self, x_TD: Tensor) -> Tensor:
        """The rows whose output is needed: all."""
        return x_TD

    def row_mask(self) -> Tensor | None:
        """(T, 1), True where a row is a real token; None if all are."""
        return None if self.mask_BL is None else self.mask_BL.reshape(-1, 1)

    @cached_property
    def buckets(self) -> tuple[AttentionBucket, ...]:
        """One bucket, the whole grid."""
        whole = AttentionBucket(
            batch=self.batch,
            queries=self.length,
            keys=self.length,
            query_rows=_ALL,
            key_rows=_ALL,
            real_BK=self.mask_BL,
        )
        return (whole,)

    def query_grids(self, x_TD: Tensor) -> list[Tensor]:
        """Rows of the query side of every bucket, here one: (batch, queries, D)."""
        return [self.grid(x_TD)]

    key_grids = query_grids

    def unbucket(self, contexts: Sequence[Tensor]) -> Tensor:
        """The buckets' outputs, (batch, queries, D) each, as rows: (T, D)."""
        return self.rows(contexts[0])


@dataclass(frozen=True, kw_only=True, eq=False)
class Packed:
    """The rows of real tokens, text after text; texts with a hole in their mask, or whose first column is
    masked, keep all their columns. `nn/packing.py` makes it.
    """

    batch: int
    length: int
    mask_BL: Tensor  # noqa: N815
    """True where a token is real."""
    grid_index_T: Tensor  # noqa: N815
    """Where each row stands in the grid: b · length + l. Rows from `num_tokens` on only fill up."""
    num_tokens: int
    first_B: Tensor  # noqa: N815
    """The row of each text's first column."""
    index: BucketIndex | None
    """The buckets as plain tensors; made where a compiler is loaded."""
    buckets: tuple[AttentionBucket, ...]
    unsort_index_T: Tensor  # noqa: N815
    """Where each row's output is among those of all buckets."""
    query_places: Places | None
    key_places: Places | None
    """Rows of all buckets; None where every bucket is a slice of the rows."""
    cu_seqlens: Tensor | None = None
    """(B + 1,) int32: where each text of the packed order begins and ends; None where some keep masked
    columns or rows fill up."""
    longest: int = 0
    """The longest text's columns."""
    query_rows_T: Tensor | None = None  # noqa: N815
    """The rows whose output is needed, where they are not all (then `grid_index_T`, `first_B` and
    `unsort_index_T` count those)."""

    @property
    def num_rows(self) -> int:
        """Rows that are computed, filling ones too."""
        return self.grid_index_T.shape[0]

    def pick(self, ids_BL: Tensor) -> Tensor:
        """Ids of the rows: (B, L) or (1, L) → (T,)."""
        return ids_BL.expand(self.batch, self.length).reshape(-1).index_select(0, self.grid_index_T)

    def rows(self, x_BLD: Tensor) -> Tensor:
        """Grid to rows: (B, L, D) → (T, D)."""
        return x_BLD.reshape(-1, x_BLD.shape[-1]).index_select(0, self.grid_index_T)

    def grid(self, x_TD: Tensor) -> Tensor:
        """Rows to grid: (T, D) → (B, L, D), zeros where no row is."""
        grid_GD = x_TD.new_zeros(self.batch * self.length, x_TD.shape[-1])
        count = self.num_tokens
        grid_GD = grid_GD.index_copy(0, self.grid_index_T[:count], x_TD[:count])
        return grid_GD.view(self.batch, self.length, -1)

    def first(self, x_TD: Tensor) -> Tensor:
        """The row of each text's first column: (T, D) → (B, D), as far apart in memory as in HF's grid.

        With several threads the bits of a product depend on that, too.
        """
        width = x_TD.shape[-1]
        spaced_BD = torch.empty_strided(
            (self.batch, width), (self.length * width, 1), dtype=x_TD.dtype, device=x_TD.device
        )
        return spaced_BD.copy_(x_TD.index_select(0, self.first_B))

    def queries(self, x_TD: Tensor) -> Tensor:
        """The rows whose output is needed."""
        return x_TD if self.query_rows_T is None else x_TD.index_select(0, self.query_rows_T)

    def row_mask(self) -> Tensor | None:
        """(T, 1), True where a row is a real token."""
        return self.pick(self.mask_BL).unsqueeze(-1)

    def query_grids(self, x_TD: Tensor) -> list[Tensor]:
        """Rows of the query side of every bucket: (T, D) → (batch, queries, D) each."""
        if self.query_places is None or not aligned(x_TD):
            return [bucket.query_grid(x_TD) for bucket in self.buckets]
        parts = torch.split(spread(x_TD, self.query_places), [b.batch * b.queries for b in self.buckets])
        return [part.view(b.batch, b.queries, -1) for part, b in zip(parts, self.buckets, strict=True)]

    def key_grids(self, x_TD: Tensor) -> list[Tensor]:
        """Rows of the key side of every bucket: (T, D) → (batch, keys, D) each."""
        if self.key_places is None or not aligned(x_TD):
            return [bucket.key_grid(x_TD) for bucket in self.buckets]
        parts = torch.split(spread(x_TD, self.key_places), [b.batch * b.keys for b in self.buckets])
        return [part.view(b.batch, b.keys, -1) for part, b in zip(parts, self.buckets, strict=True)]

    def unbucket(self, contexts: Sequence[Tensor]) -> Tensor:
        """The buckets' outputs, (batch, queries, D) each, as rows: (T, D)."""
        flat = [context.reshape(-1, context.shape[-1]) for context in contexts]
        whole = flat[0] if len(flat) == 1 else torch.cat(flat)
        return collect(whole, self.unsort_index_T, self.num_tokens)


Layout: TypeAlias = Padded | Packed
