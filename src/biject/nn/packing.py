"""Make a `Packed` layout from a mask, once a batch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from biject.nn.layout import AttentionBucket, BucketIndex, Layout, Packed
from biject.nn.regroup import Places

ColumnRule = Callable[[int, int], int]
"""(number of tokens, columns of the grid) → how many columns attention computes."""

MIN_QUERIES = 16
"""Fewer query rows can change a row's bits (docs/packing.md)."""


def spans(mask_BL: Tensor) -> list[int]:
    """How many leading columns of each text have to be computed.

    Its number of tokens; all columns where the mask has a hole or hides the first column.
    """
    length = mask_BL.shape[1]
    columns_L = torch.arange(1, length + 1, device=mask_BL.device)
    counts_B = mask_BL.sum(1)
    ends_B = (mask_BL * columns_L).amax(1)
    kept_B = torch.where((counts_B == ends_B) & (counts_B > 0), counts_B, length)
    return [int(count) for count in kept_B.tolist()]


def queries_to_16(tokens: int, length: int) -> int:
    """Query columns: `MIN_QUERIES` or a multiple."""
    return min(length, -(-tokens // MIN_QUERIES) * MIN_QUERIES)


def pack(
    mask_BL: Tensor,
    kept: Sequence[int],
    keys: ColumnRule,
    *,
    queries: ColumnRule = queries_to_16,
    num_rows: int = 0,
) -> Packed:
    """The layout of a batch.

    Args:
        mask_BL: (B, L), True where a token is real.
        kept: `spans(mask_BL)`.
        keys: how far keys are filled up; texts with equal results are a bucket.
        queries: the same for queries.
        num_rows: compute at least so many rows; the first one is repeated.
    """
    batch, length = mask_BL.shape
    sizes = [(queries(kept[text], length), keys(kept[text], length)) for text in range(batch)]
    order = sorted(range(batch), key=lambda text: (sizes[text], text))
    ordered = torch.tensor(order)
    counts = torch.tensor([kept[text] for text in order])
    starts = counts.cumsum(0) - counts
    num_tokens = int(counts.sum())
    columns_T = torch.arange(num_tokens) - starts.repeat_interleave(counts)
    grid_index_T = (ordered * length).repeat_interleave(counts) + columns_T
    fill = max(0, num_rows - num_tokens)
    grid_index_T = torch.cat([grid_index_T, grid_index_T[:1].expand(fill)])
    first_B = torch.empty(batch, dtype=torch.long)
    first_B[ordered] = starts
    plain = fill == 0 and num_tokens == int(mask_BL.sum())
    ends = torch.cat([starts, counts.new_tensor([num_tokens])]).to(torch.int32)
    found = _buckets(mask_BL, [sizes[text] for text in order], ordered, counts, starts)
    query_places, key_places = found.query_places, found.key_places
    return Packed(
        batch=batch,
        length=length,
        mask_BL=mask_BL,
        grid_index_T=grid_index_T,
        num_tokens=num_tokens,
        first_B=first_B,
        index=found.flat,
        buckets=found.buckets,
        unsort_index_T=torch.cat([query_places.place_N, query_places.place_N[:1].expand(fill)]),
        query_places=None if found.slices else query_places,
        key_places=None if found.slices else key_places,
        cu_seqlens=ends if plain else None,
        longest=max(kept),
    )


class _Buckets(NamedTuple):
    flat: BucketIndex | None
    buckets: tuple[AttentionBucket, ...]
    query_places: Places
    key_places: Places

    @property
    def slices(self) -> bool:
        """Every bucket is a slice of the rows."""
        return all(isinstance(bucket.query_rows, slice) for bucket in self.buckets)


def _buckets(
    mask_BL: Tensor, sizes: list[tuple[int, int]], ordered: Tensor, counts: Tensor, starts: Tensor
) -> _Buckets:
    """Buckets of texts in packed order, and where each row stands among the places of all buckets."""
    buckets, at = [], 0
    query_rows, key_rows, real = [], [], []
    while at < len(sizes):
        queries, keys = sizes[at]
        end = at + sizes[at:].count(sizes[at])
        n, start = counts[at:end], starts[at:end]
        real_BK = mask_BL[ordered[at:end], :keys]
        query_rows.append(_index(start, n, queries))
        key_rows.append(_index(start, n, keys))
        real.append(real_BK.reshape(-1))
        full = bool((n == keys).all()) and queries == keys
        whole = slice(int(start[0]), int(start[0] + n.sum())) if full else None
        buckets.append(
            AttentionBucket(
                batch=end - at,
                queries=queries,
                keys=keys,
                query_rows=whole or query_rows[-1],
                key_rows=whole or key_rows[-1],
                real_BK=None if bool(real_BK.all()) else real_BK,
            )
        )
        at = end
    by_query = _places(query_rows, [size[0] for size in sizes], counts)
    alike = all(queries == keys for queries, keys in sizes)
    by_key = by_query if alike else _places(key_rows, [size[1] for size in sizes], counts)
    return _Buckets(_flat(buckets, query_rows, key_rows, real), tuple(buckets), by_query, by_key)


def _places(rows: list[Tensor], columns: list[int], counts: Tensor) -> Places:
    """Rows of all buckets; of each text its first columns are its own places.

    Args:
        rows: of each bucket.
        columns: of each text, in packed order.
        counts: rows of each text.
    """
    ends = torch.tensor(columns).cumsum(0)
    begins = (ends - torch.tensor(columns)) - (counts.cumsum(0) - counts)
    place_N = begins.repeat_interleave(counts) + torch.arange(int(counts.sum()))
    return Places(rows_P=torch.cat(rows), place_N=place_N)


def _flat(
    buckets: Sequence[AttentionBucket], query_rows: list[Tensor], key_rows: list[Tensor], real: list[Tensor]
) -> BucketIndex | None:
    """None while no compiler is loaded, which alone needs it."""
    if "torch._dynamo" not in sys.modules:
        return None
    sizes = [(bucket.batch, bucket.queries, bucket.keys) for bucket in buckets]
    sizes += [(0, 0, 0)] * max(0, 2 - len(sizes))  # compilers specialise on a dimension of 1
    tensors = (torch.tensor(sizes), torch.cat(query_rows), torch.cat(key_rows), torch.cat(real))
    for tensor in tensors:
        sys.modules["torch._dynamo"].maybe_mark_dynamic(tensor, 0)  # equal by chance is not equal for ever
    return BucketIndex(sizes=tensors[0], query_rows=tensors[1], key_rows=tensors[2], real=tensors[3])


def _index(start: Tensor, count: Tensor, columns: int) -> Tensor:
    """Rows of the first `columns` columns of each text; its last row where it is shorter."""
    index = start[:, None] + torch.minimum(torch.arange(columns), count[:, None] - 1)
    return index.reshape(-1)


def first_only(layout: Packed, *, num_rows: int = 0) -> Packed:
    """The same batch where only the row of each text's first column is needed.

    Attention still computes `MIN_QUERIES` queries a text, what follows one row a text.

    Args:
        layout: the whole batch.
        num_rows: compute at least so many rows; the first one is repeated.
    """
    device, base, buckets, query_rows = layout.first_B.device, 0, [], []
    outputs = torch.empty(layout.num_rows, dtype=torch.long, device=device)
    for bucket in layout.buckets:
        queries = min(bucket.queries, MIN_QUERIES)
        rows = bucket.query_rows
        if isinstance(rows, slice):
            rows = torch.arange(rows.start, rows.stop, device=device)
        rows_BQ = rows.view(bucket.batch, bucket.queries)[:, :queries]
        outputs[rows_BQ[:, 0]] = base + torch.arange(bucket.batch, device=device) * queries
        query_rows.append(rows_BQ.reshape(-1))
        buckets.append(replace(bucket, queries=queries, query_rows=query_rows[-1]))
        base += bucket.batch * queries
    index = layout.index
    if index is not None:
        sizes = index.sizes.clone()
        sizes[:, 1].clamp_(max=MIN_QUERIES)
        index = replace(index, sizes=sizes, query_rows=torch.cat(query_rows))
    first_B = layout.first_B
    places = Places(rows_P=torch.cat(query_rows), place_N=outputs[first_B], own_N=first_B)
    narrowed = replace(
        layout, index=index, buckets=tuple(buckets), unsort_index_T=outputs, query_places=places
    )
    return select(narrowed, layout.first_B, num_rows=num_rows)


def select(layout: Packed, index_K: Tensor, *, num_rows: int = 0) -> Packed:
    """The same batch where only some rows are needed; the others are still looked at.

    Args:
        layout: the whole batch.
        index_K: their indices among the layout's rows.
        num_rows: compute at least so many rows; row 0 is repeated.
    """
    fill = index_K.new_zeros(max(0, num_rows - index_K.shape[0]))
    index_T = torch.cat([index_K, fill])
    return replace(
        layout,
        grid_index_T=layout.grid_index_T.index_select(0, index_T),
        num_tokens=index_K.shape[0],
        first_B=torch.arange(layout.batch, device=index_K.device),
        unsort_index_T=layout.unsort_index_T.index_select(0, index_T),
        cu_seqlens=None,
        query_rows_T=index_T,
    )


def to_device(layout: Layout, device: torch.device) -> Layout:
    """The same layout with its indices on a device; what is there stays."""
    if not isinstance(layout, Packed) or device.type == "cpu":
        return layout

    def moved(x: Any) -> Any:
        if isinstance(x, Places):
            return x.to(device)
        return x.to(device, non_blocking=True) if isinstance(x, Tensor) else x

    index = layout.index
    if index is not None:
        rows = {name: moved(getattr(index, name)) for name in ("query_rows", "key_rows", "real")}
        index = replace(index, **rows)
    buckets = tuple(
        replace(b, query_rows=moved(b.query_rows), key_rows=moved(b.key_rows), real_BK=moved(b.real_BK))
        for b in layout.buckets
    )
    names = ("mask_BL", "grid_index_T", "first_B", "unsort_index_T", "cu_seqlens", "query_rows_T",
             "query_places", "key_places")  # fmt: skip
    return replace(
        layout,
        index=index,
        buckets=buckets,
        **{name: moved(getattr(layout, name)) for name in names},
    )
