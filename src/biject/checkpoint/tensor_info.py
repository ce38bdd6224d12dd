"""One tensor's entry in a checkpoint, and the dtypes that Biject reads and writes. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

ITEM_BYTES: Mapping[str, int] = MappingProxyType(
    {
        "BOOL": 1,
        "U8": 1,
        "I8": 1,
        "F8_E5M2": 1,
        "F8_E4M3": 1,
        "I16": 2,
        "U16": 2,
        "F16": 2,
        "BF16": 2,
        "I32": 4,
        "U32": 4,
        "F32": 4,
        "F64": 8,
        "I64": 8,
        "U64": 8,
    }
)
"""Bytes per element by safetensors code, in the order of the library's own enum (its writer sorts by it)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorInfo:
    """Where a tensor is.

    Attributes:
        name: As in the file.
        dtype: Safetensors code, e.g. ``F32``.
        shape: Empty for a scalar.
        file: File name relative to the folder.
        start: First byte in that file; 0 for `.bin`, whose layout is pickle's own.
        end: One past the last byte; the size in bytes for `.bin`.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str
    start: int
    end: int

    @property
    def nbytes(self) -> int:
        """Size of the data."""
        return self.end - self.start

    @property
    def numel(self) -> int:
        """Number of elements; 1 for a scalar."""
        return math.prod(self.shape)
