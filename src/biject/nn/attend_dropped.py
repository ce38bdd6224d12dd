"""Attention with dropout on the CPU: all heads of all texts in one function that keeps and copies little.

torch's own path with dropout has passes of its own for scaling, masking, a safe softmax, one random double a
score, and copies of heads around its products. Here products go into memory that is there, scores and their
softmax are one tensor, and the backward pass keeps the weights and two random bytes a score. Sums are in
float32, whatever the rows are in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from biject.config.layers import AttentionSpec, MaskKind
from biject.nn.draws import draw_bits, keep_factors, takes_bits
from biject.nn.heads_apart import HeadsApart, Piece, heads_apart
from biject.nn.layout import Layout, Packed
from biject.nn.regroup import collect, spread


class DrawsPlan(Protocol):
    """What is looked at of a `BatchPlan`."""

    @property
    def layout(self) -> Layout: ...

    @property
    def masks(self) -> Mapping[MaskKind, tuple[Tensor | None, ...]]: ...

    @property
    def own_draws(self) -> bool: ...

    @property
    def prepared(self) -> dict[Any, Any]: ...


def takes_dropped(plan: DrawsPlan, spec: AttentionSpec, q_TD: Tensor, dropout: float) -> bool:
    """Whether `attend_dropped` computes this."""
    return (
        plan.own_draws
        and isinstance(plan.layout, Packed)
        and q_TD.dtype in (torch.float32, torch.bfloat16)
        and takes_bits(dropout)
        and spec.num_heads == spec.num_key_value_heads
        and not spec.by_steps
    )


def attend_dropped(
    q_THE: Tensor, k_TGE: Tensor, v_TGE: Tensor, plan: DrawsPlan, spec: AttentionSpec, dropout: float
) -> Tensor:
    """Rows' heads → rows, (T, H·E), each weight dropped at the rate of `dropout`."""
    layout = plan.layout
    assert isinstance(layout, Packed)
    num_heads, kind = q_THE.shape[1], spec.mask_kind
    apart = plan.prepared.get((num_heads, kind))
    if apart is None:
        apart = plan.prepared[num_heads, kind] = heads_apart(layout, plan.masks[kind], num_heads)
    q_NE, k_NE, v_NE = (
        spread(x.reshape(-1, x.shape[-1]), places)
        for x, places in ((q_THE, apart.query), (k_TGE, apart.key), (v_TGE, apart.key))
    )
    context_NE = _Attend.apply(q_NE, k_NE, v_NE, apart, spec.scale, dropout)  # type: ignore[no-untyped-call]
    rows_NE = collect(context_NE, apart.place_N, layout.num_tokens * num_heads)
    return rows_NE.view(-1, num_heads * rows_NE.shape[1])


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q_NE: Tensor, k_NE: Tensor, v_NE: Tensor, apart: HeadsApart, scale: float, rate: float
    ) -> Tensor:
        bits_N = draw_bits(apart.num_scores)
        weights_N = torch.empty(apart.num_scores)
        with torch.autocast("cpu", enabled=False):
            q, k, v = q_NE.float(), k_NE.float(), v_NE.float()
            context = torch.empty_like(q)
            for piece in apart.pieces:
                weights = _weights(q, k, weights_N, piece, scale)
                kept = weights * _factors(bits_N, piece, rate)
                torch.bmm(kept, _keys(v, piece), out=_queries(context, piece))
        ctx.save_for_backward(q_NE, k_NE, v_NE, weights_N, bits_N)
        ctx.apart, ctx.scale, ctx.rate = apart, scale, rate
        return context.to(q_NE.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NE: Tensor) -> tuple[Tensor | None, ...]:
        *rows, weights_N, bits_N = ctx.saved_tensors
        with torch.autocast("cpu", enabled=False):
            grad, q, k, v = (x.float() for x in (grad_NE.contiguous(), *rows))
            found = tuple(map(torch.empty_like, (q, k, v)))
            for piece in ctx.apart.pieces:
                weights, factors = _scores(weights_N, piece), _factors(bits_N, piece, ctx.rate)
                out = _queries(grad, piece)
                torch.bmm((weights * factors).mT, out, out=_keys(found[2], piece))
                grad_kept = torch.bmm(out, _keys(v, piece).mT).mul_(factors)
                grad_scores = torch._softmax_backward_data(grad_kept, weights, -1, torch.float32)
                grad_scores.mul_(ctx.scale)
                torch.bmm(grad_scores, _keys(k, piece), out=_queries(found[0], piece))
                torch.bmm(grad_scores.mT, _queries(q, piece), out=_keys(found[1], piece))
        return (*(x.to(given.dtype) for x, given in zip(found, rows, strict=True)), None, None, None)


def _weights(q_NE: Tensor, k_NE: Tensor, weights_N: Tensor, piece: Piece, scale: float) -> Tensor:
    """The softmax of a piece's scores, written where it belongs: (heads, L, S)."""
    scores = _scores(weights_N, piece)
    scores.baddbmm_(_queries(q_NE, piece), _keys(k_NE, piece).mT, beta=0, alpha=scale)
    by_text = scores.view(piece.texts, -1, piece.queries, piece.keys)
    if piece.bias is not None:
        by_text.add_(piece.bias)
    torch.softmax(scores, -1, out=scores)
    if piece.blind is not None:
        by_text.masked_fill_(piece.blind, 0.0)
    return scores


def _scores(all_N: Tensor, piece: Piece) -> Tensor:
    return all_N[piece.score].view(piece.heads, piece.queries, piece.keys)


def _queries(all_NE: Tensor, piece: Piece) -> Tensor:
    return all_NE[piece.query].view(piece.heads, piece.queries, -1)


def _keys(all_NE: Tensor, piece: Piece) -> Tensor:
    return all_NE[piece.key].view(piece.heads, piece.keys, -1)


def _factors(bits_N: Tensor, piece: Piece, rate: float) -> Tensor:
    return keep_factors(bits_N[piece.score], rate).view(piece.heads, piece.queries, piece.keys)
