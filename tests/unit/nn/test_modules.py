"""Our building blocks are torch's, but for values: nothing that torch's constructors set is left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from biject.nn.modules import Conv1d, Embedding, LayerNorm, Linear

MAKERS: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module]]] = {
    "linear": (lambda: Linear(3, 5), lambda: nn.Linear(3, 5, device="meta")),
    "no bias": (lambda: Linear(3, 5, bias=False), lambda: nn.Linear(3, 5, bias=False, device="meta")),
    "norm": (lambda: LayerNorm(7, eps=1e-7), lambda: nn.LayerNorm(7, eps=1e-7, device="meta")),
    "embedding": (
        lambda: Embedding(9, 4, padding_idx=1),
        lambda: nn.Embedding(9, 4, padding_idx=1, device="meta"),
    ),
    "convolution": (
        lambda: Conv1d(8, 3, groups=2),
        lambda: nn.Conv1d(8, 8, 3, padding=1, groups=2, device="meta"),
    ),
}


@pytest.fixture(params=MAKERS)
def pair(request: pytest.FixtureRequest) -> tuple[nn.Module, nn.Module]:
    """Our module and torch's."""
    ours, theirs = MAKERS[request.param]
    return ours(), theirs()


def settings(module: nn.Module) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if name != "_parameters"}


def test_everything_that_torch_sets_is_there(pair: tuple[nn.Module, nn.Module]) -> None:
    ours, theirs = pair
    assert isinstance(ours, type(theirs))
    assert settings(ours) == settings(theirs)
    assert repr(ours) == repr(theirs)


def test_parameters_are_torchs_on_the_meta_device(pair: tuple[nn.Module, nn.Module]) -> None:
    ours, theirs = (module._parameters for module in pair)
    assert list(ours) == list(theirs)
    for own, other in zip(ours.values(), theirs.values(), strict=True):
        assert (own is None) == (other is None)
        if own is not None and other is not None:
            assert isinstance(own, nn.Parameter)
            assert own.is_meta
            assert (own.shape, own.dtype, own.requires_grad) == (other.shape, other.dtype, True)


def test_values_never_come_from_here(pair: tuple[nn.Module, nn.Module]) -> None:
    ours, theirs = pair
    loaded = {n: torch.full(p.shape, 2.0) for n, p in theirs.named_parameters()}
    ours.load_state_dict(loaded, assign=True)
    ours.reset_parameters()  # type: ignore[operator]
    assert all(bool((value == 2.0).all()) for value in ours.state_dict().values())
