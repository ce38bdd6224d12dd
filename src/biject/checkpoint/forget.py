"""Give memory back that a mapped file takes while it is read: its pages come again when they are needed."""

from __future__ import annotations

import ctypes
import mmap
import sys
from functools import cache
from typing import Any

_DONTNEED = 4
"""MADV_DONTNEED of Linux."""


@cache
def _madvise() -> Any:
    """The C library's, or None where this is not Linux."""
    if not sys.platform.startswith("linux"):
        return None
    found = getattr(ctypes.CDLL(None), "madvise", None)
    if found is not None:
        found.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return found


def forget(address: int, num_bytes: int) -> None:
    """Take whole pages of a mapping out of this process's memory.

    Only for pages of a file that nobody wrote to: a private mapping would lose what was written.
    """
    madvise = _madvise()
    first = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
    length = (address + num_bytes - first) // mmap.PAGESIZE * mmap.PAGESIZE
    if madvise is not None and length > 0:
        madvise(first, length, _DONTNEED)  # advice: where it is refused, nothing is lost but memory
