"""How lower layers report without printing: notices and progress, delivered to whoever listens.

The command line listens and draws; a library user who does nothing gets notices as `BijectWarning`s
and no progress.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from biject.errors import BijectWarning


@dataclass(frozen=True, kw_only=True)
class Notice:
    """One message for the user. `code` is stable and machine-readable, e.g. `unknown-config-key`."""

    code: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Work done so far: `done` of `total` (None if unknown) in `unit`s, e.g. bytes or cells.

    `detail` is a short status, e.g. the loss.
    """

    label: str
    done: int
    total: int | None
    unit: str
    detail: str = ""


class Listener(Protocol):
    """What `listening` takes: a callable for each of the two kinds of event."""

    def notice(self, event: Notice) -> None: ...

    def progress(self, event: Progress) -> None: ...


_listener: ContextVar[Listener | None] = ContextVar("biject_listener", default=None)
_known: ContextVar[frozenset[str]] = ContextVar("_known", default=frozenset())


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Deliver events of the enclosed calls to `listener` instead of the default."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


class _NoticesOnly:
    """Passes notices on, and drops progress."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def notice(self, event: Notice) -> None:
        self._listener.notice(event)

    def progress(self, event: Progress) -> None:
        """Not shown."""


@contextmanager
def without_progress() -> Iterator[None]:
    """Drop progress inside the block; notices go where they went."""
    listener = _listener.get()
    if listener is None:
        yield
        return
    with listening(_NoticesOnly(listener)):
        yield


@contextmanager
def known(*codes: str) -> Iterator[None]:
    """Inside the block these notices are left out: what they say is what is being done."""
    token = _known.set(_known.get() | set(codes))
    try:
        yield
    finally:
        _known.reset(token)


def is_heard() -> bool:
    """Whether somebody listens."""
    return _listener.get() is not None


def notice(code: str, message: str) -> None:
    """Report something to the user; without a listener it becomes a Python warning."""
    if code in _known.get():
        return
    listener = _listener.get()
    if listener is None:
        warnings.warn(message, BijectWarning, stacklevel=3)
    else:
        listener.notice(Notice(code=code, message=message))


def progress(label: str, done: int, total: int | None = None, *, unit: str = "", detail: str = "") -> None:
    """Report progress; without a listener it is dropped."""
    listener = _listener.get()
    if listener is not None:
        listener.progress(Progress(label=label, done=done, total=total, unit=unit, detail=detail))
