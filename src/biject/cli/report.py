"""Tables and lines for what `inspect` and the verifier found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from biject.cli.console import format_bytes, print_document, print_lines
from biject.cli.terminal import cell, stdout

if TYPE_CHECKING:
    from biject.inspect_adapter import AdapterInspection
    from biject.inspection import Inspection
    from biject.verify.matrix import Cell, MatrixResult
    from biject.verify.report import Report

_STYLES = {"pass": "green", "fail": "bold red", "skipped": "yellow", "n/a": "dim"}


def print_inspection(found: Inspection) -> None:
    """One row a fact, then what is odd and what stands in the way."""
    table = Table(show_header=False, title=_title(found.folder), title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    named = (
        "" if found.architecture in (None, found.hf_class) else f" (config.json names {found.architecture})"
    )
    files = found.weight_files[0] if len(found.weight_files) == 1 else f"{len(found.weight_files)} shards"
    rows = {
        "family": found.model_type or "unknown",
        "head": f"{found.head}: {found.hf_class}{named}" if found.head else "unknown",
        "sizes": ", ".join(f"{name} {value}" for name, value in found.sizes.items()),
        "parameters": f"{found.num_parameters:,}" if found.num_parameters is not None else "unknown",
        "tensors": f"{found.num_tensors} ({format_bytes(found.tensor_bytes)})",
        "dtypes": ", ".join(f"{dtype} × {count}" for dtype, count in found.dtypes.items()),
        "weights": f"{files} ({found.format})",
        "tokenizer": ", ".join(found.tokenizer_files) or "none",
    }
    for name, value in rows.items():
        table.add_row(cell(name), cell(value))
    for oddity in found.oddities:
        table.add_row(cell("odd"), cell(oddity))
    for problem in found.problems:
        table.add_row(cell("problem", "red"), cell(problem))
    stdout().print(table)


def print_adapter(found: AdapterInspection) -> None:
    """The same for an adapter's folder."""
    table = Table(show_header=False, title=_title(found.folder), title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    dtypes = ", ".join(f"{dtype} × {count}" for dtype, count in found.dtypes.items())
    rows = {
        "adapter": found.kind,
        "base": f"{found.base or 'not named'}{f' ({found.model_type})' if found.model_type else ''}",
        "head": found.head or "unknown",
        "rank, alpha": f"{_shown(found.rank)}, {_shown(found.alpha)}",
        "targets": ", ".join(found.targets) or "the family's usual ones",
        "trained whole": ", ".join(found.saved) or "none",
        "biases": found.bias or "unknown",
        "base held in": found.quantization or "full, as far as is recorded",
        "parameters": f"{found.num_parameters:,}",
        "tensors": f"{found.num_tensors} ({format_bytes(found.tensor_bytes)}), {dtypes or 'none'}",
        "weights": found.weights or "none",
        "tokenizer": ", ".join(found.tokenizer_files) or "the base's",
    }
    for name, value in rows.items():
        table.add_row(cell(name), cell(value))
    for oddity in found.oddities:
        table.add_row(cell("odd"), cell(oddity))
    for problem in found.problems:
        table.add_row(cell("problem", "red"), cell(problem))
    stdout().print(table)


def print_report(report: Report, *, json: bool, verbose: bool = True) -> int:
    """A line a level, failures in full, what was not checked, the verdict; gives the exit code.

    `verbose`: first the folder's facts and the levels as tables, then a line a check.
    """
    code = 0 if report.passed else 1
    if json:
        print_document(report.to_json())
        return code
    if not verbose:
        print_lines(report.summary())
        return code
    console = stdout()
    facts = {**report.model, **report.environment}
    about = Table(show_header=False, title=_title(report.folder), title_justify="left")
    about.add_column(style="bold")
    about.add_column(overflow="fold")
    about.add_row("source", cell(report.source or "none given"))
    for name, value in facts.items():
        about.add_row(cell(name), cell(_shown(value)))
    console.print(about)
    table = Table("level", "result", "checks", "failed", "seconds")
    for level in report.levels:
        table.add_row(
            level.name,
            cell(level.status.upper(), _STYLES[level.status]),
            str(len(level.checks)),
            str(len(level.failures)),
            f"{level.seconds:.1f}",
        )
    console.print(table)
    print_lines(report.lines())
    return code


def print_cell(cell: Cell) -> None:
    """One plain line as soon as a cell is done."""
    word = "PASS" if cell.passed else f"FAIL {','.join(cell.failed_levels)}"
    memory = "" if cell.peak_memory_bytes is None else f", peak {format_bytes(cell.peak_memory_bytes)}"
    print_lines([f"{cell.family} {cell.head}: {word} ({cell.seconds:.1f} s{memory})"])


def print_matrix(result: MatrixResult) -> None:
    """The grid as a table, what went wrong, and the verdict."""
    header, rows = result.grid()
    table = Table(*header)
    for row in rows:
        marks = [cell(mark, "bold red" if mark.startswith("FAIL") else "green") for mark in row[1:]]
        table.add_row(cell(row[0]), *marks)
    stdout().print(table)
    print_lines(result.lines()[1 + len(rows) :])  # the grid's own plain lines come first


def _title(folder: str) -> Text:
    return cell(folder, "table.title")


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value)) or "none"
    return "none" if value is None else str(value)
