"""From how many rows on does a linear give each row the bits that it has among more rows?

A matrix product is blocked by its shape: below some row count, or between two, another blocking (or another
split over threads) sums in another order. So row counts fall into runs of equal bits. Odd counts are measured
too, since leftover rows can take another kernel.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from biject.nn.probe import store

FEWEST = 16
"""The smallest row count that is looked at."""
GROWTH = 1.25
WIDEST = 4096
"""Wider outputs are measured at this width and the same remainder: blocks of outputs are narrower by far."""


Form = Literal["bias", "plain", "in-out"]
"""With a bias; without one; with one and the matrix stored (in, out)."""


def same_bits_from(
    inputs: int, outputs: int, total: int, dtype: torch.dtype, form: Form = "bias"
) -> int | None:
    """The smallest measured row count whose rows have the bits they have among `total` rows; None if no
    smaller one does.

    All counts from the answer up to `total` lie in one run of equal bits.
    """
    if total <= FEWEST:
        return None
    points = _points(total)
    links = _links(inputs, _narrowed(outputs), points, dtype, form)
    start = len(points) - 1
    while start > 0 and links[start - 1]:
        start -= 1
    # `total` lies between the last two points; with the last link broken its own run is not known.
    return points[start] if points[start] < total else None


def _points(total: int) -> list[int]:
    """Row counts to measure: growing, odd and even, the last one at least `total`."""
    points, size = [FEWEST, FEWEST + 1], float(FEWEST + 2)
    while points[-1] < total:
        points.append(int(size))
        size = size * GROWTH + 1
    return points


def _narrowed(outputs: int) -> int:
    return outputs if outputs <= 2 * WIDEST else WIDEST + outputs % 64


def _links(inputs: int, outputs: int, points: list[int], dtype: torch.dtype, form: Form) -> list[bool]:
    """Whether each point's rows have the bits that they have at the next point."""
    question = f"linear {form} {inputs} {outputs} {str(dtype).removeprefix('torch.')}"
    links = list(store.recall(question) or [])
    wanted = len(points) - 1
    if len(links) < wanted:
        links += _measure(inputs, outputs, points[len(links) :], dtype, form)
        store.remember(question, links)
    return links[:wanted]


def _measure(inputs: int, outputs: int, points: list[int], dtype: torch.dtype, form: Form) -> list[bool]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(points[-1], inputs, generator=draw).to(dtype)
    weight = (torch.randn(outputs, inputs, generator=draw) / inputs**0.5).to(dtype)
    bias = torch.randn(outputs, generator=draw).to(dtype)
    stored = weight.t().contiguous() if form == "in-out" else weight
    links, before = [], None
    with torch.no_grad():
        for count in points:
            shift = points[-1] - count  # another place among the rows at every count
            rows = x[shift:].clone()
            if form == "in-out":
                here = torch.addmm(bias, rows, stored)
            else:
                here = F.linear(rows, weight, bias if form == "bias" else None)
            if before is not None:
                links.append(_equal(before, here))
            before = here
    return links


def _equal(few: Tensor, many: Tensor) -> bool:
    return torch.equal(few, many[-few.shape[0] :])
