"""The process's peak memory over a block of code."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Measures the highest resident memory inside the `with` block, files that are mapped included.

    Linux lets a process reset its own high-water mark; elsewhere the peak is that of the whole process so
    far, and where even that is unknown, None.
    """

    peak_bytes: int | None = None

    def __enter__(self) -> Self:
        with suppress(OSError):
            _RESET.write_text("5", encoding="ascii")  # proc(5): resets VmHWM
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.peak_bytes = _peak_bytes()


def _peak_bytes() -> int | None:
    try:
        for line in _STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
