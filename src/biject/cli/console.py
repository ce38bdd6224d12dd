"""Results on stdout; notices and progress on stderr. What is drawn needs `terminal`, which loads rich."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

from biject.cli.plain import plain, plain_json
from biject.progress import ProgressLines

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from biject.events import Notice, Progress

_PATIENCE_SECONDS = 1.0  # shorter work shows no progress bar


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON document on stdout."""
    print_document(json.dumps(value, indent=2, ensure_ascii=False))


def print_document(text: str) -> None:
    """A JSON document that is text already."""
    print(plain_json(text))


def print_lines(lines: list[str]) -> None:
    """Plain lines on stdout, never wrapped nor coloured, so that they can be searched."""
    for line in lines:
        print(plain(line))


def format_bytes(count: int) -> str:
    """`90868376` as `90.9 MB` (decimal units, as the Hub shows them)."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


class TerminalListener:
    """Shows what lower layers report: notices always, progress bars on a terminal after a second of work."""

    def __init__(self) -> None:
        self._bars: Bars | None = None
        self._tasks: dict[str, TaskID] = {}
        self._started: dict[str, float] = {}
        self._seen: set[str] = set()
        self._lines: ProgressLines | None = None

    def __enter__(self) -> TerminalListener:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def _log(self, event: Progress) -> None:
        if self._lines is None:
            self._lines = ProgressLines()
        self._lines.progress(replace(event, label=plain(event.label), detail=plain(event.detail)))

    def notice(self, event: Notice) -> None:
        """One line on stderr; the same line is not repeated."""
        if event.message not in self._seen:
            self._seen.add(event.message)
            print(f"biject: note: {plain(event.message)}", file=sys.stderr)

    def progress(self, event: Progress) -> None:
        """A bar per label, once its work has lasted a second; a line now and then where stderr is a log."""
        if not sys.stderr.isatty():
            self._log(event)
            return
        started = self._started.setdefault(event.label, time.monotonic())
        if time.monotonic() - started < _PATIENCE_SECONDS:
            return
        if self._bars is None:
            from biject.cli.terminal import bars

            self._bars = bars()
            self._bars.start()
        if event.label not in self._tasks:
            self._tasks[event.label] = self._bars.add_task(plain(event.label), total=event.total, detail="")
        task = self._tasks[event.label]
        going = event.total is None or event.done < event.total
        self._bars.update(
            task, completed=event.done, total=event.total, detail=plain(event.detail), visible=going
        )
