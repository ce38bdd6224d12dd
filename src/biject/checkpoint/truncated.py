"""A mapped file that somebody cuts short: one message and exit code 2 where the kernel would send SIGBUS.

Reading beyond the end of a mapped file is no error that Python could raise. A program that owns its process,
such as the `biject` command, calls `end_in_order()` once, and the first file that is mapped sets up the
handler; as a library Biject leaves the process's signals alone. Linux and macOS.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from pathlib import Path
from typing import Any

MAPPED: dict[str, int] = {}
"""Files that were mapped, with their sizes then."""
UNFINISHED: set[Path] = set()
"""Folders that are being written, to be removed."""

_EXIT_CODE = 2
_handlers: list[Any] = []
_wanted: list[bool] = []


def end_in_order() -> None:
    """From now on a truncated file ends the process with a message; does nothing where there is no SIGBUS."""
    _wanted.append(True)


def mapped(path: Path, size: int) -> None:
    """A file of this many bytes is mapped now."""
    MAPPED[str(path.absolute())] = size
    if _wanted and not _handlers and hasattr(signal, "SIGBUS"):
        _set_up()


def _set_up() -> None:
    import ctypes

    kind = ctypes.CFUNCTYPE(None, ctypes.c_int)
    handler = kind(_end)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.signal.argtypes = (ctypes.c_int, kind)
    libc.signal.restype = ctypes.c_void_p
    libc.signal(signal.SIGBUS, handler)
    _handlers.append(handler)  # libc keeps only its address


def _end(_: int) -> None:
    """Runs where the fault was; nothing may return from here."""
    try:
        with contextlib.suppress(Exception):
            os.write(2, f"biject: error: {_message()}\n".encode(errors="backslashreplace"))
        for folder in tuple(UNFINISHED):
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os._exit(_EXIT_CODE)


def _message() -> str:
    for name, size in MAPPED.items():
        now = -1
        with contextlib.suppress(OSError):
            now = Path(name).stat().st_size
        if now < size:
            found = "is gone" if now < 0 else f"has {now} bytes"
            return (
                f"{name!r} was cut short while it was read: it had {size} bytes, and {found}. Put the file "
                "back and run the command again."
            )
    return "a mapped file could not be read (SIGBUS): its disk is faulty, or it was cut short for a while."
