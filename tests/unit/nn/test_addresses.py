"""Addresses: measured, kept when parameters leave a file, and alike on both sides of a comparison."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from biject.nn import addresses
from biject.nn.addresses import ALIGNED_BYTES, align, aligned, copied
from biject.nn.probe import addresses as question
from biject.nn.probe import store


def shifted(count: int, by: int, *, dtype: torch.dtype = torch.float32) -> Tensor:
    room = torch.zeros(count + 2 * ALIGNED_BYTES, dtype=dtype)
    size = room.element_size()
    start = (-room.data_ptr() % ALIGNED_BYTES) // size + by // size
    return room[start : start + count].copy_(torch.arange(count))


@pytest.fixture(params=[True, False])
def matters(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(addresses, "addresses_matter", lambda: request.param)
    return request.param


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64])
@pytest.mark.parametrize("by", [0, 8, 24, 40, 56])
def test_a_copy_keeps_its_distance_where_that_matters(matters: bool, by: int, dtype: torch.dtype) -> None:
    one = shifted(37, by, dtype=dtype)
    two = copied(one)
    assert torch.equal(one, two)
    assert two.untyped_storage().data_ptr() != one.untyped_storage().data_ptr()
    if matters:
        assert two.data_ptr() % ALIGNED_BYTES == by


def test_align(matters: bool) -> None:
    module = nn.Linear(4, 4)
    weight = module.weight
    weight.data = shifted(16, 8).view(4, 4)
    before = weight.detach().clone()
    assert aligned(module) is not matters
    align(module)
    assert module.weight is weight
    assert torch.equal(weight, before)
    assert aligned(module)
    assert (weight.data_ptr() % ALIGNED_BYTES == 0) is matters


@pytest.mark.parametrize("sensitive", [True, False])
def test_the_question_sees_a_kernel_that_minds(sensitive: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: a product that adds the distance to its first number."""

    def product(x: Tensor, weight: Tensor) -> Tensor:
        out = (x[:, None] * weight[None]).sum(-1)
        return out + (weight.data_ptr() % ALIGNED_BYTES) * (1e-6 if sensitive else 0.0)

    monkeypatch.setattr(question, "_products", lambda x, weight: (product(x, weight),))
    monkeypatch.setattr(store, "recall", lambda _: None)
    monkeypatch.setattr(store, "remember", lambda *_: None)
    assert question.addresses_matter() is sensitive
