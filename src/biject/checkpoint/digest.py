"""A file's sha256, worked out in a thread while its next piece is read; and a quick comparison of bytes."""

from __future__ import annotations

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import numpy as np


class Digest:
    """As `hashlib.sha256`, to be closed; a piece must not change until the call after it has returned.

    Args:
        data: what comes first.
    """

    def __init__(self, data: bytes = b"") -> None:
        self._sum = hashlib.sha256(data)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="sha256")
        self._running: Future[None] | None = None

    def update(self, data: bytes | memoryview) -> None:
        """Add a piece; returns while it is worked on, once the piece before it is done."""
        self._wait()
        self._running = self._pool.submit(self._sum.update, data)

    def hexdigest(self) -> str:
        """Of all pieces so far."""
        self._wait()
        return self._sum.hexdigest()

    def _wait(self) -> None:
        if self._running is not None:
            self._running.result()
        self._running = None

    def __enter__(self) -> Digest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()


def same_bytes(one: bytes | memoryview, other: bytes | memoryview) -> bool:
    """Whether they are equal, without a copy: memoryviews are compared number by number otherwise."""
    if len(one) != len(other):
        return False
    whole = len(one) // 8 * 8
    a, b = (np.frombuffer(x, dtype=np.uint64, count=whole // 8) for x in (one, other))
    return bool((a == b).all()) and bytes(one[whole:]) == bytes(other[whole:])
