"""Rows of a packed batch into buckets and back; their gradients are moved, not added up.

A row stands in one place of the buckets and every other place that shows it only fills up: keys there are
masked and outputs there are dropped, so that their gradients are zeros. torch's gradient of `index_select`
adds all places up in a new tensor of zeros, for each bucket anew; these read each row's own place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_ALIGNED_BYTES = 64
"""torch's own tensors begin at multiples; products' bits may depend on that."""


def aligned(x_TD: Tensor) -> bool:
    """A view that begins at any row is aligned as a tensor of its own."""
    return x_TD.shape[-1] * x_TD.element_size() % _ALIGNED_BYTES == 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Places:
    """Where rows stand among the places of all buckets, one bucket after another."""

    rows_P: Tensor  # noqa: N815
    """Which row each place shows."""
    place_N: Tensor  # noqa: N815
    """The own place of each row that has a gradient."""
    own_N: Tensor | None = None  # noqa: N815
    """Which rows these are; None for the first N."""

    def to(self, device: torch.device) -> Places:
        """The same with its indices on a device."""
        own_N = None if self.own_N is None else self.own_N.to(device, non_blocking=True)
        rows_P, place_N = (x.to(device, non_blocking=True) for x in (self.rows_P, self.place_N))
        return Places(rows_P=rows_P, place_N=place_N, own_N=own_N)


def spread(x_TD: Tensor, places: Places) -> Tensor:
    """What each place shows: (T, D) → (P, D)."""
    found: Tensor = _Spread.apply(  # type: ignore[no-untyped-call]
        x_TD, places.rows_P, places.place_N, places.own_N
    )
    return found


def collect(x_PD: Tensor, place_T: Tensor, num_rows: int) -> Tensor:
    """Each row's own place: (P, D) → (T, D).

    Args:
        x_PD: places.
        place_T: where each row stands.
        num_rows: the first so many stand in different places; the others repeat one, and have no gradient.
    """
    found: Tensor = _Collect.apply(x_PD, place_T, num_rows)  # type: ignore[no-untyped-call]
    return found


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(x_TD: Tensor, rows_P: Tensor, place_N: Tensor, own_N: Tensor | None) -> Tensor:
        return x_TD.index_select(0, rows_P)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x_TD, _, place_N, own_N = inputs
        ctx.num_rows = x_TD.shape[0]
        ctx.save_for_backward(place_N, own_N)

    @staticmethod
    def backward(ctx: Any, grad_PD: Tensor) -> tuple[Tensor, None, None, None]:
        place_N, own_N = ctx.saved_tensors
        grad_ND = grad_PD.index_select(0, place_N)
        if own_N is not None:
            grad_TD = grad_ND.new_zeros(ctx.num_rows, grad_ND.shape[1])
            return grad_TD.index_copy(0, own_N, grad_ND), None, None, None
        fill = ctx.num_rows - grad_ND.shape[0]
        if fill:
            grad_ND = torch.cat([grad_ND, grad_ND.new_zeros(fill, grad_ND.shape[1])])
        return grad_ND, None, None, None


class _Collect(torch.autograd.Function):
    @staticmethod
    def forward(x_PD: Tensor, place_T: Tensor, num_rows: int) -> Tensor:
        return x_PD.index_select(0, place_T)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
        x_PD, place_T, ctx.num_rows = inputs
        ctx.num_places = x_PD.shape[0]
        ctx.save_for_backward(place_T)

    @staticmethod
    def backward(ctx: Any, grad_TD: Tensor) -> tuple[Tensor, None, None]:
        (place_T,) = ctx.saved_tensors
        count = ctx.num_rows
        grad_PD = grad_TD.new_zeros(ctx.num_places, grad_TD.shape[1])
        return grad_PD.index_copy(0, place_T[:count], grad_TD[:count]), None, None
