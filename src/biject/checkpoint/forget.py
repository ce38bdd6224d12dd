"""Give memory back that a mapped file takes while it is read: its pages come again when they are needed."""

from __future__ import annotations

import array
import ctypes
import mmap
import sys
from functools import cache
from pathlib import Path
from typing import Any

_DONTNEED = 4
"""MADV_DONTNEED of Linux."""
_PRESENT, _OF_A_FILE = 1 << 63, 1 << 61
"""Bits of a page in /proc/self/pagemap (Linux, Documentation/admin-guide/mm/pagemap.rst)."""
_SWAPPED = 1 << 62


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
    first, length = _whole_pages(address, num_bytes)
    if madvise is not None and length > 0:
        madvise(first, length, _DONTNEED)  # advice: where it is refused, nothing is lost but memory


def forget_unwritten(address: int, num_bytes: int) -> None:
    """The same for any memory, where the system says that all of it still is a file's; else nothing is done.

    Only while no other thread can write there.
    """
    first, length = _whole_pages(address, num_bytes)
    if length > 0 and _unwritten(first, length):
        forget(first, length)


def _whole_pages(address: int, num_bytes: int) -> tuple[int, int]:
    first = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
    return first, (address + num_bytes - first) // mmap.PAGESIZE * mmap.PAGESIZE


def _unwritten(first: int, length: int) -> bool:
    """Whether every page is a file's, or is not in memory at all."""
    count, pages = length // mmap.PAGESIZE, array.array("Q")
    try:
        with Path("/proc/self/pagemap").open("rb", buffering=0) as stream:
            stream.seek(first // mmap.PAGESIZE * pages.itemsize)
            found = stream.read(count * pages.itemsize)
    except OSError:
        return False
    if len(found) != count * pages.itemsize:
        return False
    pages.frombytes(found)
    return all(page & _OF_A_FILE if page & _PRESENT else not page & _SWAPPED for page in pages)
