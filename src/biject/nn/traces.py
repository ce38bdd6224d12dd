"""Traces: one mechanism by which any loop over layers hands out named values of each step, attached
to autograd.

A loop says `for layer in steps(layers): … emit("hidden", x)`; whoever needs the values opens
`Traces(model, "hidden")` and calls the model. Values are cleared at each call of the model, and
carry the step at which they were emitted. Nothing is kept, and almost nothing is spent, while no
trace is open. Works with any `nn.Module`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

Item = TypeVar("Item")
_active: ContextVar[tuple[Traces, ...]] = ContextVar("biject_traces", default=())
_step: ContextVar[int | None] = ContextVar("biject_step", default=None)


@dataclass(frozen=True)
class Emitted:
    """One value: its name, the step of the innermost loop it came from (None outside any), and the
    tensor itself.
    """

    name: str
    step: int | None
    value: Tensor


def steps(items: Iterable[Item]) -> Iterator[Item]:
    """Iterate, giving every `emit` inside the body the index of the step."""
    for index, item in enumerate(items):
        token = _step.set(index)
        try:
            yield item
        finally:
            _step.reset(token)


def emit(name: str, value: Tensor) -> None:
    """Hand out one value; dropped unless an open trace records `name`."""
    for traces in _active.get():
        traces._receive(name, value)


def tracing() -> bool:
    """Whether anybody is recording."""
    return bool(_active.get())


class Traces:
    """The values of the last call of `module`, by name.

    Args:
        module: calls of it begin a new recording; None records what runs inside the `with` block.
        names: the names to keep; none means all (with a module) or nothing (without).

    Use it as a context manager, or call `close` when done::

        with Traces(model, "hidden") as traces:
            model(**batch)
        traces["hidden"]      # one tensor per step
    """

    def __init__(self, module: nn.Module | None, *names: str) -> None:
        self._all = not names and module is not None
        self._names = frozenset(names)
        self._values: list[Emitted] = []
        self._depth = 0
        self._handles: list[RemovableHandle] = []
        if module is not None:
            self._handles = [
                module.register_forward_pre_hook(self._begin),
                module.register_forward_hook(self._end, always_call=True),
            ]

    def __getitem__(self, name: str) -> tuple[Tensor, ...]:
        """Values called `name`, in the order in which they were emitted."""
        return tuple(e.value for e in self._values if e.name == name)

    def __iter__(self) -> Iterator[Emitted]:
        """Everything kept of the last call, in order."""
        return iter(self._values)

    def steps(self, name: str) -> tuple[int | None, ...]:
        """The steps at which `name` was emitted."""
        return tuple(e.step for e in self._values if e.name == name)

    def tap(self, module: nn.Module, name: str) -> None:
        """Also keep the output of a submodule, as `name`, whenever it runs within a call."""

        def keep(_: nn.Module, __: Any, output: Any) -> None:
            if self._depth and isinstance(output, Tensor):
                self._values.append(Emitted(name, _step.get(), output))

        self._handles.append(module.register_forward_hook(keep))

    def close(self) -> None:
        """Stop recording; what was kept stays."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def __enter__(self) -> Self:
        if not self._handles and self._names:
            self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._handles and self._depth:
            self._end()
        self.close()

    def _begin(self, *_: Any) -> None:
        if self._depth == 0:
            self._values.clear()
            _active.set((*_active.get(), self))
        self._depth += 1

    def _end(self, *_: Any) -> None:
        self._depth = max(0, self._depth - 1)
        if self._depth == 0:
            _active.set(tuple(t for t in _active.get() if t is not self))

    def _receive(self, name: str, value: Tensor) -> None:
        if self._all or name in self._names:
            self._values.append(Emitted(name, _step.get(), value))
