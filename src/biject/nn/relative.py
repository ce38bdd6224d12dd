"""Disentangled attention's part: content and relative position score separately (He et al. 2021,
arXiv:2006.03654, eq. 4).

Source of every formula and of the order of operations: transformers 5.23,
models/deberta_v2/modeling_deberta_v2.py. Letters beside the package's: G = B·H (batch and heads
flattened), P rows of the table of relative positions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biject.config.layers import AttentionConfig, RelativeConfig
from biject.nn.attend import attention_weights
from biject.nn.modules import Embedding, Linear, make_norm
from biject.nn.rowwise import RowOp


class RelativeTable(nn.Module):
    """The table of relative positions, shared by all layers.

    Shape: () → (P, D), P = 2 · span.
    """

    def __init__(self, relative: RelativeConfig, hidden_size: int) -> None:
        super().__init__()
        self.table = Embedding(2 * relative.span, hidden_size)
        self.norm = make_norm(relative.norm, hidden_size)

    def forward(self) -> Tensor:
        out: Tensor = self.norm(self.table.weight)
        return out


def log_bucket(distance: Tensor, buckets: int, max_distance: int) -> Tensor:
    """Distances beyond half the buckets share buckets of logarithmic width (appendix A.5 of the
    paper).
    """
    mid = buckets // 2
    near = (distance < mid) & (distance > -mid)
    reach = torch.where(near, torch.tensor(mid - 1).type_as(distance), torch.abs(distance))
    far = (
        torch.ceil(torch.log(reach / mid) / torch.log(torch.tensor((max_distance - 1) / mid)) * (mid - 1))
        + mid
    )
    return torch.where(reach <= mid, distance.type_as(far), far * torch.sign(distance))


def relative_distances(length: int, relative: RelativeConfig, device: torch.device) -> Tensor:
    """Query position minus key position, bucketed where the config says so: (1, L, L), integers."""
    ids = torch.arange(length, dtype=torch.long, device=device)
    distance_LL = ids[:, None] - ids[None, :]
    if relative.buckets > 0 and relative.max_distance > 0:
        distance_LL = log_bucket(distance_LL, relative.buckets, relative.max_distance)
    return distance_LL.to(torch.long).unsqueeze(0)


class Rows(NamedTuple):
    """Consecutive rows of the table of relative positions."""

    first: int
    end: int


ALIGNED = 16
"""Rows of the table are left out by so many: torch multiplies very few columns in another order."""


def near_rows(distances: Tensor, span: int, queries: int, keys: int) -> Rows:
    """The rows that so many columns look at; all where distances lie on a device that would be waited for."""
    if distances.device.type != "cpu":
        return Rows(0, 2 * span)
    first, last = int(distances[0, 0, keys - 1]) + span, int(distances[0, queries - 1, 0]) + span
    first, last = max(0, min(first, 2 * span - 1)), max(0, min(last, 2 * span - 1))
    return Rows(first // ALIGNED * ALIGNED, min(2 * span, (last // ALIGNED + 1) * ALIGNED))


class PositionHeads(NamedTuple):
    """Keys and queries of the relative positions, (H, P, E) each, where the model scores with them."""

    keys: Tensor | None = None
    queries: Tensor | None = None
    first: int | None = None
    """The table's row that theirs begin with, where each bucket may leave out what it does not look at."""


class RelativeScores(nn.Module):
    """Scores of content with position, and what comes of them; the table is projected by matrices of its own
    or by the content's.
    """

    def __init__(self, config: AttentionConfig, relative: RelativeConfig) -> None:
        super().__init__()
        self.relative, self.num_heads = relative, config.spec.num_heads
        self.terms = 1 + relative.content_to_position + relative.position_to_content
        own, width = relative.enabled and not relative.share_keys, config.hidden_size
        self.k_proj = Linear(width, width) if own and relative.content_to_position else None
        self.q_proj = Linear(width, width) if own and relative.position_to_content else None

    def row_ops(self) -> tuple[RowOp, ...]:
        """None of its own."""
        return ()

    def positions(
        self, table_PD: Tensor | None, near: Rows | None, q_proj: nn.Module, k_proj: nn.Module
    ) -> PositionHeads:
        """The table's keys and queries, or those of its rows `near`; `q_proj` and `k_proj` are the content's.

        In HF's order, which decides what adapters draw in training and how gradients are added up: with the
        content's projections queries come first, and both are made even if one is not needed.
        """
        relative = self.relative
        if table_PD is None:
            return PositionHeads()
        table_PD = F.dropout(table_PD, p=relative.dropout, training=self.training)
        first = None if near is None else 0
        if near is None or torch.compiler.is_compiling():  # other rows for each batch are other code
            table_1PD = table_PD[0 : relative.span * 2].unsqueeze(0)
        else:
            first, table_1PD = near.first, table_PD[near.first : near.end].unsqueeze(0)
        if relative.share_keys:
            queries, keys = self._split(q_proj(table_1PD)), self._split(k_proj(table_1PD))
            return PositionHeads(
                keys if relative.content_to_position else None,
                queries if relative.position_to_content else None,
                first,
            )
        own_keys = None if self.k_proj is None else self._split(self.k_proj(table_1PD))
        own_queries = None if self.q_proj is None else self._split(self.q_proj(table_1PD))
        return PositionHeads(own_keys, own_queries, first)

    def attend(
        self,
        q_BHQE: Tensor,
        k_BHKE: Tensor,
        v_BHKE: Tensor,
        *,
        mask: Tensor | None,
        positions: PositionHeads,
        distances: Tensor | None,
        dropout: float,
    ) -> tuple[Tensor, Tensor]:
        """See `attend_relative`."""
        return attend_relative(
            q_BHQE, k_BHKE, v_BHKE,
            mask=mask, positions=positions, distances=distances,
            span=self.relative.span, terms=self.terms, dropout=dropout,
        )  # fmt: skip

    def _split(self, x_1PD: Tensor) -> Tensor:
        """(1, P, D) → (H, P, E), contiguous."""
        return _flat(x_1PD.view(*x_1PD.shape[:-1], self.num_heads, -1).permute(0, 2, 1, 3))


def attend_relative(
    q_BHQE: Tensor,
    k_BHKE: Tensor,
    v_BHKE: Tensor,
    *,
    mask: Tensor | None,
    positions: PositionHeads,
    distances: Tensor | None,
    span: int,
    terms: int,
    dropout: float,
) -> tuple[Tensor, Tensor]:
    """Attention with scores of content and position.

    Args:
        q_BHQE: queries.
        k_BHKE: keys.
        v_BHKE: values.
        mask: (B, 1, Q, K), True where a query may look; None: everywhere.
        positions: the table's keys and queries.
        distances: (1, L, L), see `relative_distances`; None without a table.
        span: half the rows of the table.
        terms: how many scores are added, which their scale depends on.
        dropout: rate for the weights; 0 outside of training.

    Returns:
        Context (B, H, Q, E) and weights (B, H, Q, K).
    """
    batch, heads, queries, _ = q_BHQE.shape
    q_GQE, k_GKE, v_GKE = (_flat(x) for x in (q_BHQE, k_BHKE, v_BHKE))
    scale = _scale(q_GQE, terms)
    scores_GQK = torch.bmm(q_GQE, k_GKE.transpose(-1, -2) / scale)
    if distances is not None:
        rows = Rows(0, 2 * span)
        if positions.first is not None:
            rows = near_rows(distances, span, queries, k_GKE.shape[1])
        pos_k_GPE, pos_q_GPE = (
            None if x is None else _rows_of(x, rows, positions.first or 0).repeat(batch, 1, 1)
            for x in (positions.keys, positions.queries)
        )
        scores_GQK += _position_scores(
            q_GQE, k_GKE, pos_k_GPE, pos_q_GPE, distances, span=span, rows=rows, scale=scale
        )
    scores_BHQK = scores_GQK.view(batch, heads, queries, -1)
    if mask is not None:
        scores_BHQK = scores_BHQK.masked_fill_(~mask, torch.finfo(q_GQE.dtype).min)
    weights_BHQK = attention_weights(scores_BHQK, dtype=scores_BHQK.dtype, dropout=dropout)
    context_GQE = torch.bmm(weights_BHQK.view(batch * heads, queries, -1), v_GKE)
    return context_GQE.view(batch, heads, queries, -1), weights_BHQK


def _scale(x_GLE: Tensor, terms: int) -> Tensor:
    """√(E · number of score terms), a 0-d CPU tensor as in HF (division by it is what fixes the bits)."""
    return torch.sqrt(torch.tensor(x_GLE.size(-1), dtype=torch.float) * terms).to(dtype=x_GLE.dtype)


def _position_scores(
    q_GQE: Tensor,
    k_GKE: Tensor,
    pos_k_GPE: Tensor | None,
    pos_q_GPE: Tensor | None,
    distances: Tensor,
    *,
    span: int,
    rows: Rows,
    scale: Tensor,
) -> Tensor | int:
    """The sum of the terms: (G, Q, K); 0 if there are none. `rows`: which of the table's P are given.

    In place, with HF's bits: new memory of this size costs more than the sums.
    """
    groups, queries, keys = q_GQE.shape[0], q_GQE.shape[1], k_GKE.shape[1]
    middle, last = span - rows.first, rows.end - 1 - rows.first
    scores: Tensor | None = None
    if pos_k_GPE is not None:
        by_row = torch.clamp(distances[:, :queries, :keys] + middle, 0, last)
        to_position = torch.bmm(q_GQE, pos_k_GPE.transpose(-1, -2))
        c2p_GQK = torch.gather(to_position, dim=-1, index=by_row.expand(groups, queries, keys))
        scores = c2p_GQK.div_(scale)
    if pos_q_GPE is not None:
        by_column = torch.clamp(-distances[:, :keys, :queries] + middle, 0, last)
        to_position = torch.bmm(k_GKE, pos_q_GPE.transpose(-1, -2))
        p2c_GKQ = torch.gather(to_position, dim=-1, index=by_column.expand(groups, keys, queries))
        p2c_GQK = p2c_GKQ.div_(scale).transpose(-1, -2)
        scores = p2c_GQK if scores is None else scores.add_(p2c_GQK)
    return 0 if scores is None else scores


def _rows_of(x_HPE: Tensor, rows: Rows, first: int) -> Tensor:
    """Of keys or queries of consecutive rows of the table that begin with `first`."""
    return x_HPE[:, rows.first - first : rows.end - first]


def _flat(x_BHLE: Tensor) -> Tensor:
    """(B, H, L, E) → (G, L, E), contiguous."""
    return x_BHLE.contiguous().view(-1, *x_BHLE.shape[2:])
