"""Make a `Packed` layout from a mask, once a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from biject.nn.layout import Group, Packed

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
        keys: how far keys are filled up; texts with equal results are a group.
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
    places_T = (ordered * length).repeat_interleave(counts) + columns_T
    fill = max(0, num_rows - num_tokens)
    places_T = torch.cat([places_T, places_T[:1].expand(fill)])
    first_B = torch.empty(batch, dtype=torch.long)
    first_B[ordered] = starts
    plain = fill == 0 and num_tokens == int(mask_BL.sum())
    ends = torch.cat([starts, counts.new_tensor([num_tokens])]).to(torch.int32)
    groups, back_T = _groups(mask_BL, [sizes[text] for text in order], ordered, counts, starts)
    device = mask_BL.device
    return Packed(
        batch=batch,
        length=length,
        mask_BL=mask_BL,
        places_T=places_T.to(device),
        num_tokens=num_tokens,
        first_B=first_B.to(device),
        groups=groups,
        back_T=torch.cat([back_T, back_T[:1].expand(fill)]).to(device),
        cu_seqlens=ends.to(device) if plain else None,
        longest=max(kept),
    )


def _groups(
    mask_BL: Tensor, sizes: list[tuple[int, int]], ordered: Tensor, counts: Tensor, starts: Tensor
) -> tuple[tuple[Group, ...], Tensor]:
    """The groups of texts in packed order, and where each row's output is among those of all groups."""
    device, groups, back, base, at = mask_BL.device, [], [], 0, 0
    while at < len(sizes):
        queries, keys = sizes[at]
        end = at + sizes[at:].count(sizes[at])
        n, start, texts = counts[at:end], starts[at:end], ordered[at:end]
        real_BK = mask_BL[texts.to(device), :keys]
        full = bool((n == keys).all()) and queries == keys
        whole = slice(int(start[0]), int(start[0] + n.sum())) if full else None
        groups.append(
            Group(
                batch=end - at,
                queries=queries,
                keys=keys,
                query_rows=whole or _index(start, n, queries).to(device),
                key_rows=whole or _index(start, n, keys).to(device),
                real_BK=None if bool(real_BK.all()) else real_BK,
            )
        )
        outputs = base + torch.arange(end - at) * queries
        within = torch.arange(int(n.sum())) - (start - start[0]).repeat_interleave(n)
        back.append(outputs.repeat_interleave(n) + within)
        base += (end - at) * queries
        at = end
    return tuple(groups), torch.cat(back)


def _index(start: Tensor, count: Tensor, columns: int) -> Tensor:
    """Rows of the first `columns` columns of each text; its last row where it is shorter."""
    index = start[:, None] + torch.minimum(torch.arange(columns), count[:, None] - 1)
    return index.reshape(-1)


def first_only(layout: Packed, *, num_rows: int = 0) -> Packed:
    """The same batch where only the row of each text's first column is wanted.

    Attention still computes `MIN_QUERIES` queries a text, what follows one row a text.

    Args:
        layout: the whole batch.
        num_rows: compute at least so many rows; the first one is repeated.
    """
    device, base, groups = layout.first_B.device, 0, []
    outputs = torch.empty(layout.num_rows, dtype=torch.long, device=device)
    for group in layout.groups:
        queries = min(group.queries, MIN_QUERIES)
        rows = group.query_rows
        if isinstance(rows, slice):
            rows = torch.arange(rows.start, rows.stop, device=device)
        rows_BQ = rows.view(group.batch, group.queries)[:, :queries]
        outputs[rows_BQ[:, 0]] = base + torch.arange(group.batch, device=device) * queries
        groups.append(replace(group, queries=queries, query_rows=rows_BQ.reshape(-1)))
        base += group.batch * queries
    narrowed = replace(layout, groups=tuple(groups), back_T=outputs)
    return select(narrowed, layout.first_B, num_rows=num_rows)


def select(layout: Packed, wanted_K: Tensor, *, num_rows: int = 0) -> Packed:
    """The same batch where only some rows are wanted; the others are still looked at.

    Args:
        layout: the whole batch.
        wanted_K: their indices among the layout's rows.
        num_rows: compute at least so many rows; row 0 is repeated.
    """
    fill = wanted_K.new_zeros(max(0, num_rows - wanted_K.shape[0]))
    wanted_T = torch.cat([wanted_K, fill])
    return replace(
        layout,
        places_T=layout.places_T.index_select(0, wanted_T),
        num_tokens=wanted_K.shape[0],
        first_B=torch.arange(layout.batch, device=wanted_K.device),
        back_T=layout.back_T.index_select(0, wanted_T),
        cu_seqlens=None,
        query_rows_T=wanted_T,
    )
