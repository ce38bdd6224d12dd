"""`biject verify-matrix --transformers A,B`: releases beside each other, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from biject.cli.console import print_document, print_lines

if TYPE_CHECKING:
    from biject.verify.versions.result import Release, Watch


def watch_releases(
    releases: Sequence[str],
    *,
    families: Sequence[str] | None,
    heads: Sequence[str] | None,
    env_dir: Path | None,
    constraints: Path | None,
    keep: Path | None,
    json: bool,
) -> int:
    """Watch, print the table and what changed; 1 where a release and Biject differ."""
    from biject.verify.matrix import cells
    from biject.verify.versions.watch import watch_versions

    found = watch_versions(
        releases,
        cells(families, heads),
        env_dir=env_dir,
        constraints=constraints,
        keep=keep,
        on_release=None if json else _print_release,
    )
    if json:
        print_document(found.to_json())
    else:
        _print_watch(found)
    return 0 if found.passed else 1


def _print_release(release: Release) -> None:
    """One plain line as soon as a release is done."""
    present = [cell for cell in release.cells if cell.absent is None]
    passed = sum(cell.passed for cell in present)
    absent = len(release.cells) - len(present)
    more = f" ({absent} that it does not have)" if absent else ""
    print_lines([f"transformers {release.version}: {passed}/{len(present)} cells{more}"])


def _print_watch(found: Watch) -> None:
    from rich.table import Table

    from biject.cli.terminal import cell, stdout

    header, rows = found.table()
    table = Table(*header[:-1])  # what changed has lines of its own
    for row in rows:
        marks = [cell(mark, "bold red" if "(" in mark else "green") for mark in row[1:-1]]
        table.add_row(cell(row[0]), *marks)
    stdout().print(table)
    print_lines(found.lines())
