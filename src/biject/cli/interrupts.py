"""Ctrl-C, SIGTERM and a closed terminal: a run in training stops at a step boundary, with a checkpoint."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from biject.train.stopping import StopRequest

_WORDS = {"SIGINT": "Ctrl-C", "SIGTERM": "SIGTERM", "SIGHUP": "the terminal is gone (SIGHUP)"}
_STOPPING = "stopping after this step, with a checkpoint; Ctrl-C again stops at once."


_lost: list[bool] = []
"""Whether a Ctrl-C of each command that runs came and may have been lost."""


@contextmanager
def not_lost() -> Iterator[None]:
    """Inside the block a Ctrl-C that somebody swallows still ends the command.

    numpy and torch swallow one that comes while they are imported, and stay imported in part.

    Raises:
        KeyboardInterrupt: As usual; and in place of what such a module raises later.
    """
    own = threading.current_thread() is threading.main_thread()
    if not own or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        _lost[-1] = True
        signal.default_int_handler(number, frame)

    _lost.append(False)
    signal.signal(signal.SIGINT, handle)
    try:
        yield
    except (AttributeError, ImportError) as error:
        if _lost[-1]:
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _lost.pop()


@contextmanager
def stops_on_signals(stopping: StopRequest) -> Iterator[None]:
    """Inside the block a signal asks a run that is stepping to stop; Ctrl-C once more ends it at once.

    Outside of the steps (data are read, the model is exported) a signal ends the process as usual. A signal
    that is ignored already, as SIGHUP is under nohup, stays ignored.

    Raises:
        KeyboardInterrupt: There was a Ctrl-C before, which was lost.
    """
    if _lost and _lost[-1]:
        raise KeyboardInterrupt
    terminals = [stream for stream in (1, 2) if os.isatty(stream)]  # gone, they are none any more

    def handle(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if name == "SIGHUP":
            _leave(terminals)
        again = stopping.reason is not None and name == "SIGINT"
        if again or not stopping.can_wait:
            if name == "SIGINT":
                raise KeyboardInterrupt
            raise SystemExit(128 + number)
        stopping.request(name)
        _say(f"\nbiject: {_WORDS[name]}: {_STOPPING}\n")

    before = {}
    own = threading.current_thread() is threading.main_thread()  # others may not set handlers
    for name in _WORDS if own else ():
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_code(reason: str | None) -> int:
    """128 and the signal's number, as shells have it; 0 where no signal stopped the run."""
    number = getattr(signal, reason or "", None)
    return 128 + number if isinstance(number, int) else 0


def _say(text: str) -> None:
    """Past Python's buffers, which the interrupted code may be writing to."""
    if os.environ.get("RANK", "0") == "0":
        with suppress(OSError):
            os.write(2, text.encode())


def _leave(terminals: Sequence[int]) -> None:
    """Writing to a terminal that is gone would be an error before the checkpoint is written."""
    with suppress(OSError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        for stream in terminals:
            os.dup2(nothing, stream)
        os.close(nothing)
