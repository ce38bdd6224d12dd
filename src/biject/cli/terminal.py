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
    """A line per label: how far, how long still, how it goes."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}", style="dim"),
        console=Console(stderr=True),
        transient=True,
    )
