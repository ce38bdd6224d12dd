"""rich's consoles and progress bars; imported where something is drawn."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from biject.cli.plain import plain

if TYPE_CHECKING:
    from rich.progress import Progress

_PLAIN_COLUMNS = 120  # where stdout is a file or a pipe, tables are not squeezed into 80 columns


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave the exit code to `main`: rich's own, 1, would mean that a gate failed."""
        raise BrokenPipeError


def cell(value: str, style: str = "") -> Text:
    """Text as it is, for a table: rich would read brackets and colons of a string as markup."""
    return Text(plain(value), style=style)


def stdout() -> Console:
    """The console that results go to."""
    return _Console(width=None if sys.stdout.isatty() else _PLAIN_COLUMNS, highlight=False)


def bars() -> Progress:
    """A line per label: how far, how long still, how it goes; as much as the terminal has columns for."""
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)

    class Detail(ProgressColumn):
        """Its parts from the left, as far as there is room."""

        def render(self, task: Task) -> Text:
            taken = (
                len(task.description) + len("  100% 0:00:00 ") + (_BAR + 1 if _has_bar(console.width) else 0)
            )
            return Text(fitted(task.fields["detail"], console.width - taken), style="dim", no_wrap=True)

    columns = [
        TextColumn("{task.description}", markup=False),
        *([BarColumn(bar_width=_BAR)] if _has_bar(console.width) else []),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
        Detail(),
    ]
    # What goes to stdout is redirected above the bars only where it is the same terminal.
    return Progress(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty())


_BAR = 12


def _has_bar(columns: int) -> bool:
    return columns >= 60


def fitted(text: str, room: int) -> str:
    """As many of the parts between commas as fit."""
    parts = text.split(", ")
    while parts and len(", ".join(parts)) > room:
        parts.pop()
    return ", ".join(parts)
