"""The tools with which code faults are injected: every change is undone at the end of its block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from biject.model import Model
from biject.verify.faults.outcome import DoesNotApply

_ABSENT = object()


@contextmanager
def patched(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Give `owner` another attribute for a while: of an instance, a class or a module.

    Raises:
        AttributeError: it has no such attribute, so that nothing would be changed.
    """
    getattr(owner, name)
    before = vars(owner).get(name, _ABSENT)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is _ABSENT:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


@contextmanager
def input_changed(module: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Let a module see a changed first input."""
    handle = module.register_forward_pre_hook(lambda _, inputs: (change(inputs[0]), *inputs[1:]))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def output_changed(module: nn.Module, change: Callable[[Tensor, Tensor], Tensor]) -> Iterator[None]:
    """Let others see a changed output of a module; `change` is given its first input and its output."""
    handle = module.register_forward_hook(lambda _, inputs, output: change(inputs[0], output))
    try:
        yield
    finally:
        handle.remove()


def part(model: Model, name: str) -> nn.Module:
    """A module of the model, or a reason."""
    found: nn.Module | None = dict(model.named_modules()).get(name)
    if found is None:
        raise DoesNotApply(f"the model has no `{name}`")
    return found
