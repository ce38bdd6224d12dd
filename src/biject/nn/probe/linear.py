"""From how many rows on does a linear give each row the bits that it has among more rows?

A matrix product is blocked by its shape: below some row count, or between two, another blocking (or another
split over threads) sums in another order. So row counts fall into runs of equal bits. Leftover rows can take
another kernel (with AVX2 those of n mod 6 = 1, 2, 3): so neighbouring counts are measured, not single ones.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from biject.nn.probe import store
from biject.nn.rowwise import Form

FEWEST = 16
"""The smallest row count that is looked at."""
DENSE = 64
"""Up to here every count is measured."""
CLUSTER = 8
"""Neighbouring counts that are measured beyond, so that every number of leftover rows occurs."""
CLUSTERED = 256
"""From here on single counts will do, if neighbours below had equal bits."""
GROWTH = 1.25
WIDEST = 4096
"""Wider outputs are measured at this width and the same remainder: blocks of outputs are narrower by far."""


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
    if total > CLUSTERED and not _neighbours_agree(points, links):
        return None
    start = len(points) - 1
    while start > 0 and links[start - 1]:
        start -= 1
    # `total` lies before the last point; where the run does not reach so far, its own run is not known.
    return points[start] if points[start] < total else None


def _points(total: int) -> list[int]:
    """Row counts to measure: all small ones, then growing clusters, the last one at least `total`."""
    points, size = list(range(FEWEST, DENSE + 1)), DENSE
    while points[-1] < total:
        size = int(size * GROWTH) + 1
        points += range(size, size + (CLUSTER if size <= CLUSTERED else 1))
    return points


def _neighbours_agree(points: list[int], links: list[bool]) -> bool:
    """Whether in one of the last two clusters all counts have equal bits (in the other a run may begin)."""
    within = [
        link
        for one, other, link in zip(points, points[1:], links, strict=False)
        if other == one + 1 and one > DENSE
    ]
    size = CLUSTER - 1
    return all(within[-size:]) or all(within[-2 * size : -size])


def _narrowed(outputs: int) -> int:
    return outputs if outputs <= 2 * WIDEST else WIDEST + outputs % 64


def _links(inputs: int, outputs: int, points: list[int], dtype: torch.dtype, form: Form) -> list[bool]:
    """Whether each point's rows have the bits that they have at the next point."""
    question = f"linear {form} {inputs} {outputs} {str(dtype).removeprefix('torch.')}"
    links = list(store.recall(question) or [])
    needed = len(points) - 1
    if len(links) < needed:
        links += _measure(inputs, outputs, points[len(links) :], dtype, form)
        store.remember(question, links)
    return links[:needed]


@store.plainly()
def _measure(inputs: int, outputs: int, points: list[int], dtype: torch.dtype, form: Form) -> list[bool]:
    x, weight, bias = draw_numbers(inputs, outputs, points[-1], dtype)
    stored = weight.t().contiguous() if form == "transposed" else weight
    links, before = [], None
    for count in points:
        shift = points[-1] - count  # another place among the rows at every count
        rows = x[shift:].clone()
        if form == "transposed":
            here = torch.addmm(bias, rows, stored)
        else:
            here = F.linear(rows, weight, bias if form == "bias" else None)
        if before is not None:
            links.append(_equal(before, here))
        before = here
    return links


def draw_numbers(inputs: int, outputs: int, rows: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, matrix and bias: random; but for float32 every sum cancels, so that what is left is its rounding.

    Sums run in more digits than a half dtype keeps: of ordinary numbers, one result in hundreds shows another
    order. Pairs of inputs with opposite signs and equal weights have the sum 0 in any order but for rounding.
    Doubles are drawn as such: products of two numbers with a float's digits are exact in a double.
    """
    draw = torch.Generator().manual_seed(0)
    drawn = torch.float64 if dtype == torch.float64 else torch.float32
    x = torch.randn(rows, inputs, generator=draw, dtype=drawn)
    weight = torch.randn(outputs, inputs, generator=draw, dtype=drawn) / inputs**0.5
    bias = torch.randn(outputs, generator=draw, dtype=drawn)
    if dtype != torch.float32:
        order, half = torch.randperm(inputs, generator=draw), inputs // 2
        first, second = order[:half], order[half : 2 * half]
        x[:, second], weight[:, second] = -x[:, first], weight[:, first]
        x[:, order[2 * half :]] = 0.0  # an odd one out
        bias *= 2.0**-20 if dtype != torch.float64 else 2.0**-50
    return x.to(dtype), weight.to(dtype), bias.to(dtype)


def _equal(few: Tensor, many: Tensor) -> bool:
    return torch.equal(few, many[-few.shape[0] :])
