"""Where each head's part of a row stands when buckets hold heads one after another: (batch, H, columns, E).

Products of heads then read and write memory as it lies, without copies in between; a part moves once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from biject.nn.layout import Packed
from biject.nn.regroup import Places

PIECE_SCORES = 1 << 20
"""Scores that are computed at a time, so that they stay in a core's cache: 4 MiB."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """Texts of one bucket, and where their heads' queries, keys and scores stand among all."""

    texts: int
    heads: int
    """Of all its texts."""
    queries: int
    keys: int
    query: slice
    key: slice
    score: slice
    bias: Tensor | None
    """(batch, 1, 1 or L, S) float32, −∞ where a key may not be looked at; None if all may."""
    blind: Tensor | None
    """(batch, 1, 1 or L, 1), True where a query may look at nothing: its weights are zeros, as in HF."""


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadsApart:
    """All buckets of a layout, head by head; rows are `row · H + head`."""

    query: Places
    key: Places
    place_N: Tensor  # noqa: N815
    """Where each head of each row stands among the queries."""
    pieces: tuple[Piece, ...]

    @property
    def num_scores(self) -> int:
        """Of all pieces."""
        return int(self.pieces[-1].score.stop)


def heads_apart(layout: Packed, masks: Sequence[Tensor | None], num_heads: int) -> HeadsApart:
    """The places of a layout's rows, and its pieces.

    Args:
        layout: on the CPU.
        masks: of each bucket, (B, 1, L, S), True where a query may look.
        num_heads: H, of queries and keys alike.
    """
    query_sizes = [(bucket.batch, bucket.queries) for bucket in layout.buckets]
    key_sizes = [(bucket.batch, bucket.keys) for bucket in layout.buckets]
    query, place_PH = _apart(layout.query_places, query_sizes, num_heads)
    alike = query_sizes == key_sizes and layout.query_places is layout.key_places
    key = query if alike else _apart(layout.key_places, key_sizes, num_heads)[0]
    place_N = place_PH.index_select(0, layout.unsort_index_T).reshape(-1)
    return HeadsApart(query=query, key=key, place_N=place_N, pieces=_pieces(layout, masks, num_heads))


def _apart(places: Places | None, sizes: list[tuple[int, int]], num_heads: int) -> tuple[Places, Tensor]:
    """The same places for each head, and (P, H): where each head of each place stands."""
    if places is None:  # every bucket is a slice of the rows
        all_P = torch.arange(sum(batch * columns for batch, columns in sizes))
        places = Places(rows_P=all_P, place_N=all_P)
    head_H = torch.arange(num_heads)
    rows, stands, base = [], [], 0
    for batch, columns in sizes:
        end = base + batch * columns
        rows_BL = places.rows_P[base:end].view(batch, 1, columns)
        rows.append((rows_BL * num_heads + head_H[:, None]).reshape(-1))
        text_B1, column_L = torch.arange(batch)[:, None], torch.arange(columns)
        first_P = (base + text_B1 * columns) * num_heads + column_L
        stands.append(first_P.reshape(-1, 1) + head_H * columns)
        base = end
    place_PH = torch.cat(stands)
    own = places.own_N
    return Places(
        rows_P=torch.cat(rows),
        place_N=place_PH.index_select(0, places.place_N).reshape(-1),
        own_N=None if own is None else (own[:, None] * num_heads + head_H).reshape(-1),
    ), place_PH


def _pieces(layout: Packed, masks: Sequence[Tensor | None], num_heads: int) -> tuple[Piece, ...]:
    found, query, key, score = [], 0, 0, 0
    for bucket, mask in zip(layout.buckets, masks, strict=True):
        queries, keys = bucket.queries, bucket.keys
        step = max(1, PIECE_SCORES // (num_heads * queries * keys))
        for at in range(0, bucket.batch, step):
            texts = min(step, bucket.batch - at)
            heads = texts * num_heads
            bias, blind = _bias(None if mask is None else mask[at : at + step])
            ends = query + heads * queries, key + heads * keys, score + heads * queries * keys
            found.append(
                Piece(
                    texts=texts,
                    heads=heads,
                    queries=queries,
                    keys=keys,
                    query=slice(query, ends[0]),
                    key=slice(key, ends[1]),
                    score=slice(score, ends[2]),
                    bias=bias,
                    blind=blind,
                )
            )
            query, key, score = ends
    return tuple(found)


def _bias(mask: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    if mask is None:
        return None, None
    if mask.stride(2) == 0:  # the same for all queries
        mask = mask[:, :, :1]
    bias = torch.zeros(mask.shape).masked_fill_(~mask, -torch.inf)
    blind = ~mask.any(-1, keepdim=True)
    return bias, blind if bool(blind.any()) else None
