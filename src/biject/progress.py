"""Progress without the command line's bars: one line on a terminal, a line now and then in a log."""

from __future__ import annotations

import shutil
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from biject.errors import BijectWarning
from biject.events import Notice, Progress, is_heard, listening

LOG_SECONDS = 30.0
"""Between two lines where stderr is a file or a pipe, as under nohup or on a cluster."""
_SIZES = (("GB", 10**9), ("MB", 10**6), ("kB", 10**3), ("bytes", 1))
LIVE_SECONDS = 0.2
"""Between two updates of the line on a terminal."""


class ProgressLines:
    """A listener that writes progress to a stream, and gives notices as Python warnings.

    Args:
        stream: where lines go; stderr where left out.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = sys.stderr if stream is None else stream
        self.live = self.stream.isatty() or type(self.stream).__module__.startswith("ipykernel")
        self._started: dict[str, float] = {}
        self._last: dict[str, float] = {}
        self._width = 0

    def notice(self, event: Notice) -> None:
        """A warning, as where nobody listens."""
        self.clear()
        warnings.warn(event.message, BijectWarning, stacklevel=4)

    def progress(self, event: Progress) -> None:
        """Write where the work stands, if the last line is long enough ago."""
        now = time.monotonic()
        started = self._started.setdefault(event.label, now)
        if now - self._last.setdefault(event.label, now) < (LIVE_SECONDS if self.live else LOG_SECONDS):
            return
        self._last[event.label] = now
        text = words(event, seconds=now - started)
        if self.live:
            text = _cropped(text)
            self.stream.write(f"\r{text:<{self._width}}")
            self._width = len(text)
        else:
            self.stream.write(f"{text}\n")
        self.stream.flush()

    def clear(self) -> None:
        """Take the line from the terminal."""
        if self.live and self._width:
            self.stream.write("\r" + " " * self._width + "\r")
            self.stream.flush()
            self._width = 0


def _cropped(text: str) -> str:
    """What fits into a line of the terminal: a longer one could not be written over."""
    parts, room = text.split(", "), shutil.get_terminal_size().columns - 1
    while len(parts) > 1 and len(", ".join(parts)) > room:
        parts.pop()
    return ", ".join(parts)[:room]


def words(event: Progress, *, seconds: float) -> str:
    """E.g. `training 120/580 steps, 2:31 left, loss 0.4421`; `seconds`: since the work began."""
    parts = [f"{event.label} {_amount(event)}".rstrip(), time_left(event, seconds=seconds), event.detail]
    return ", ".join(part for part in parts if part)


def _amount(event: Progress) -> str:
    """`120/580 steps`, `12/91 MB`."""
    if event.unit == "bytes" and event.total:
        unit, size = next(pair for pair in _SIZES if event.total >= pair[1] or pair[1] == 1)
        return f"{event.done / size:.0f}/{event.total / size:.0f} {unit}"
    of = "" if event.total is None else f"/{event.total}"
    return f"{event.done}{of} {event.unit}"


def time_left(event: Progress, *, seconds: float) -> str:
    """E.g. `2:31 left`; empty as long as too little is done to tell."""
    if not event.total or not 0 < event.done <= event.total or seconds <= 0:
        return ""
    left = round(seconds * (event.total - event.done) / event.done)
    if event.done < event.total / 100 and seconds < 30:
        return ""
    if left >= 3600:
        return f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02} left"
    return f"{left // 60}:{left % 60:02} left"


@contextmanager
def shown_progress(show: bool) -> Iterator[None]:
    """Progress lines for the block, unless somebody listens already or they are not wanted."""
    if not show or is_heard():
        yield
        return
    lines = ProgressLines()
    with listening(lines):
        try:
            yield
        finally:
            lines.clear()
