"""A table's gradient in memory that is used again: torch's bits, never memory that somebody else holds."""

from __future__ import annotations

import copy
from threading import Thread

import pytest
import torch
from torch import Tensor, nn

from biject.nn import lookup
from biject.nn.modules import Embedding


@pytest.fixture(autouse=True)
def small_tables_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "LARGE", 1)


def table(dtype: torch.dtype = torch.float32, *, padding_idx: int | None = None) -> Embedding:
    made = Embedding(50, 16, padding_idx=padding_idx).to_empty(device="cpu").to(dtype)
    nn.init.normal_(made.weight)
    return made.train()


def step(module: nn.Module, ids: Tensor, given: Tensor) -> Tensor:
    (module(ids) * given).sum().backward()
    grad = module.weight.grad
    assert isinstance(grad, Tensor)
    return grad


@pytest.mark.parametrize("padding_idx", [None, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_have_torchs_bits_step_after_step(dtype: torch.dtype, padding_idx: int | None) -> None:
    ours = table(dtype, padding_idx=padding_idx)
    theirs = nn.Embedding(50, 16, padding_idx=padding_idx, dtype=dtype)
    theirs.load_state_dict(ours.state_dict())
    places = set()
    for seed in range(4):
        draw = torch.Generator().manual_seed(seed)
        ids = torch.randint(0, 20, (7, 9), generator=draw)
        given = torch.randn(7, 9, 16, generator=draw).to(dtype)
        mine = step(ours, ids, given)
        assert torch.equal(mine, step(theirs, ids, given))
        places.add(mine.data_ptr())
        mine.add_(1.0)  # whatever somebody does to it
        del mine
        ours.weight.grad = theirs.weight.grad = None
    assert len(places) == 1 or dtype is not torch.float32


def test_what_somebody_holds_is_left_alone_and_gradients_add_up() -> None:
    ours, ids = table(), torch.tensor([1, 2, 2])
    held = step(ours, ids, torch.ones(3, 16))
    before = held.clone()
    ours.weight.grad = None
    assert step(ours, ids + 5, torch.ones(3, 16)).data_ptr() != held.data_ptr()
    assert torch.equal(held, before)
    twice = step(ours, ids + 5, torch.ones(3, 16))
    assert torch.equal(twice.roll(-5, 0), 2 * before)


def test_two_threads_never_get_the_same_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """One is between looking whether the memory is free and taking it, while another one asks for it."""
    ours, ask, others = table(), lookup._shared, []
    step(ours, torch.tensor([1]), torch.ones(1, 16))
    ours.weight.grad = None

    def other() -> None:
        others.append(lookup._zeros(ours, torch.float32))

    def asked_at_once(tensor: Tensor) -> bool:
        monkeypatch.setattr(lookup, "_shared", ask)
        found = ask(tensor)
        thread = Thread(target=other)
        thread.start()
        thread.join()
        return found

    monkeypatch.setattr(lookup, "_shared", asked_at_once)
    mine = lookup._zeros(ours, torch.float32)
    assert len(others) == 1
    assert mine.data_ptr() != others[0].data_ptr()


def test_memory_is_given_back_and_not_copied() -> None:
    ours = table()
    step(ours, torch.tensor([1]), torch.ones(1, 16))
    assert ours in lookup._kept
    assert copy.deepcopy(ours) not in lookup._kept
    ours.eval()(torch.tensor([1]))
    assert ours not in lookup._kept


def test_tables_that_are_tied_or_small_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    tied, small = table(), table()
    tied.keeps_gradient = False
    step(tied, torch.tensor([1]), torch.ones(1, 16))
    monkeypatch.setattr(lookup, "LARGE", 1 << 22)
    step(small, torch.tensor([1]), torch.ones(1, 16))
    assert not lookup._kept


def test_the_gradient_can_be_differentiated() -> None:
    ours, ids = table(), torch.tensor([1, 2, 2])
    (first,) = torch.autograd.grad(ours(ids).pow(3).sum(), ours.weight, create_graph=True)
    first.sum().backward()
    expected = torch.zeros(50, 16).index_add_(0, ids, 6 * ours.weight.detach()[ids])
    torch.testing.assert_close(ours.weight.grad, expected)
