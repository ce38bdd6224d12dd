"""Sizes of files as people write them."""

from __future__ import annotations

import re

from biject.errors import InputError

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def parse_bytes(size: str) -> int:
    """`5GB` as bytes: decimal units as the Hub has them, `GiB` and its like for powers of two.

    Raises:
        InputError: it is no such size, or below one byte.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", size)
    factor = _UNITS.get(match[2].upper()) if match else None
    num_bytes = int(float(match[1]) * factor) if match and factor else 0
    if num_bytes < 1:
        raise InputError(f"{size!r} is no size of a file; write it as 5GB, 500MB or 2GiB.")
    return num_bytes
