"""Products of rows in groups, each group with a matrix of its own: no row is padded or left out.

Shapes: S rows in all, K inputs, N outputs, E matrices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from biject.nn.addresses import ALIGNED_BYTES, placed
from biject.nn.probe import addresses_matter
from biject.nn.uncompiled import left_alone

ENOUGH_ROWS = 4
"""Products of so many rows have the same bits wherever their operands begin (`nn/addresses.py`)."""


@left_alone
def grouped_linear(x_SK: Tensor, counts: Sequence[int], weights: Sequence[Tensor], parts: int = 1) -> Tensor:
    """Rows of each group times its matrix, (S, K) → (S, N).

    The products have the bits of transformers' `grouped_mm` on the CPU, forward and backward. A matrix whose
    group is empty gets a gradient of zeros, as there.

    Args:
        x_SK: rows, the first group's first.
        counts: rows of each group.
        weights: one tensor (E, N, K); or for each group `parts` matrices, (N / parts, K) each, whose outputs
            stand side by side.
        parts: in how many matrices a group's is stored.
    """
    if torch.is_autocast_enabled(x_SK.device.type):
        x_SK = x_SK.to(torch.get_autocast_dtype(x_SK.device.type))
    out_SN: Tensor = _GroupedLinear.apply(x_SK, tuple(counts), parts, *weights)  # type: ignore[no-untyped-call]
    return out_SN


class _GroupedLinear(torch.autograd.Function):
    """See `grouped_linear`; the two products of a stored gate and way up are computed as one."""

    @staticmethod
    def forward(ctx: Any, x_SK: Tensor, counts: tuple[int, ...], parts: int, *weights: Tensor) -> Tensor:
        trained = any(ctx.needs_input_grad[3:])
        ctx.save_for_backward(x_SK if trained else None, *weights)
        ctx.counts, ctx.parts = counts, parts
        out_SN = x_SK.new_empty(len(x_SK), weights[0].shape[-2] * parts)
        for index, rows in _groups(counts):
            matrix = _matrix(weights, index, parts, x_SK[rows])
            torch.mm(x_SK[rows], matrix.t(), out=out_SN[rows])
        return out_SN

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x_SK, *weights = ctx.saved_tensors
        grad_SN = gradients[0].contiguous()
        needs_x, _, _, *needs_weights = ctx.needs_input_grad
        grad_x = grad_SN.new_empty(len(grad_SN), weights[0].shape[-1]) if needs_x else None
        grad_w = _zeros(weights, ctx.parts) if any(needs_weights) else None
        for index, rows in _groups(ctx.counts):
            if grad_x is not None:
                matrix = _matrix(weights, index, ctx.parts, grad_SN[rows])
                torch.mm(grad_SN[rows], matrix, out=grad_x[rows])
            if grad_w is not None:
                grad_w[index].copy_(torch.mm(grad_SN[rows].t(), x_SK[rows]))
        given = _per_weight(grad_w, weights, ctx.parts)
        kept = (one if needed else None for one, needed in zip(given, needs_weights, strict=True))
        return (grad_x, None, None, *kept)


def _groups(counts: Sequence[int]) -> Iterator[tuple[int, slice]]:
    """Groups that have rows, and which these are."""
    start = 0
    for index, count in enumerate(counts):
        if count:
            yield index, slice(start, start + count)
        start += count


def _matrix(weights: Sequence[Tensor], index: int, parts: int, rows: Tensor) -> Tensor:
    """A group's matrix, (N, K): a view where it is stored as one, or its parts lie one after another.

    For few rows it begins where it would in a stack of all of them, if that decides bits on this machine.
    """
    if weights[0].dim() == 3:
        return weights[0][index].to(rows.dtype)
    own = weights[index * parts : (index + 1) * parts]
    found = (own[0] if parts == 1 else joined(own)).to(rows.dtype)
    if len(rows) < ENOUGH_ROWS and found.device.type == "cpu":
        distance = stacked_distance(found, index)
        if found.data_ptr() % ALIGNED_BYTES != distance and addresses_matter():
            return placed(found, distance)
    return found


def stacked_distance(matrix: Tensor, index: int) -> int:
    """How many bytes behind an aligned address the matrix with this number of a stack begins."""
    return index * matrix.nbytes % ALIGNED_BYTES


def joined(matrices: Sequence[Tensor]) -> Tensor:
    """Matrices one below another: a view where they lie so in memory, as in a file; else a copy."""
    first, place = matrices[0], matrices[0].data_ptr()
    storage = first.untyped_storage()
    for one in matrices:
        apart = one.data_ptr() != place or one.untyped_storage().data_ptr() != storage.data_ptr()
        if apart or not one.is_contiguous() or one.dtype != first.dtype:
            return torch.cat(list(matrices))
        place += one.numel() * one.element_size()
    rows = sum(len(one) for one in matrices)
    return first.as_strided((rows, first.shape[1]), (first.shape[1], 1))


def _zeros(weights: Sequence[Tensor], parts: int) -> Tensor:
    """Room for all groups' gradients, (E, N, K)."""
    first = weights[0]
    if first.dim() == 3:
        return torch.zeros_like(first)
    return first.new_zeros(len(weights) // parts, parts * first.shape[0], first.shape[1])


def _per_weight(grad_ENK: Tensor | None, weights: Sequence[Tensor], parts: int) -> Sequence[Tensor | None]:
    """The gradients as the weights are stored."""
    if grad_ENK is None:
        return [None] * len(weights)
    if weights[0].dim() == 3:
        return [grad_ENK]
    return grad_ENK.view(-1, *weights[0].shape).unbind(0)
