from __future__ import annotations

import math

import pytest
import torch

from biject.verify.numbers import distance, same_bits

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_next_number_is_one_ulp_away(dtype: torch.dtype) -> None:
    ours = torch.tensor([1.0, -0.5, 3.0], dtype=dtype)
    theirs = ours.clone()
    theirs[0] += torch.finfo(dtype).eps
    found = distance(ours, theirs)
    assert not found.same_bits
    assert found.max_ulp == 1
    assert found.max_abs == torch.finfo(dtype).eps
    assert found.scaled_ulp == 0.5  # of 3.0, whose neighbours are twice as far apart
    assert not found.within(dtype)


def test_ulps_count_across_zero() -> None:
    tiny = torch.finfo(torch.float32).smallest_normal * 2**-23  # the smallest subnormal
    assert distance(torch.tensor([tiny]), torch.tensor([-tiny])).max_ulp == 2


def test_zeros_of_both_signs_are_not_the_same_bits() -> None:
    found = distance(torch.tensor([0.0]), torch.tensor([-0.0]))
    assert not found.same_bits
    assert found.max_abs == 0
    assert "different bits" in found.words(torch.float32)


def test_nan_equals_the_same_nan_only() -> None:
    nan = torch.tensor([1.0, math.nan])
    assert distance(nan, nan.clone()).same_bits
    assert distance(nan, torch.tensor([1.0, 2.0])).max_abs == math.inf


def test_infinities() -> None:
    inf = torch.tensor([math.inf, 1.0])
    assert distance(inf, inf.clone()).same_bits
    assert distance(inf, torch.tensor([math.inf, 2.0])).max_abs == 1.0
    assert distance(inf, torch.tensor([5.0, 1.0])).max_abs == math.inf


def test_other_shape_or_dtype_is_infinitely_far() -> None:
    one = torch.zeros(2, 3)
    assert distance(one, torch.zeros(3, 2)).max_abs == math.inf
    assert distance(one, one.double()).max_abs == math.inf
    assert not same_bits(one, one.double())


def test_integers_and_views() -> None:
    ids = torch.arange(6).reshape(2, 3)
    assert same_bits(ids, ids.clone())
    assert distance(ids, ids + 1).max_abs == 1
    assert same_bits(torch.ones(3, 2).T, torch.ones(2, 3))


def test_empty() -> None:
    assert distance(torch.zeros(0), torch.zeros(0)).same_bits
