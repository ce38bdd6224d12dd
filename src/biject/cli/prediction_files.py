"""Predictions in files: the table's own columns, and beside them what the model gives."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from biject.cli.texts import Inputs
from biject.data.parquet import pyarrow
from biject.errors import InputError, shown
from biject.events import notice

_FLAT = {
    "classify": ("label", "score"),
    "classify-pictures": ("label", "score"),
    "answer": ("answer", "score", "start", "end"),
}
"""What one result has; several are one list a row."""

_LIST, _VECTOR = "predicted", "embedding"

Records = list[dict[str, Any]]


def check_out(out: Path) -> None:
    """Refuse a file that could not be written, before any work.

    Raises:
        InputError: its name has no known ending, it exists, or its folder does not.
        MissingExtraError: pyarrow is needed.
    """
    if out.suffix.lower() not in (*_WRITERS, ".npy"):
        raise InputError(f"--out should end in .csv, .jsonl, .parquet or .npy, found {shown(out.name)}.")
    if os.path.lexists(out):
        raise InputError(f"--out {out} exists already: remove it, or choose another name.")
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: there is no folder {out.parent}.")
    if out.suffix.lower() == ".parquet":
        pyarrow("pyarrow.parquet", purpose="--out with .parquet")


def check_results(out: Path, task: str, inputs: Inputs, *, top_k: int | None) -> tuple[str, ...]:
    """The columns that results of a task get.

    Raises:
        InputError: the table has such a column already, or the format does not fit the task.
    """
    if out.suffix.lower() == ".npy":
        if task != "embed":
            raise InputError(
                f"--out with .npy is an array of embeddings, which the task {task} does not give; choose "
                ".csv, .jsonl or .parquet."
            )
        return (_VECTOR,)
    flat = _FLAT.get(task, ()) if top_k in (None, 1) else ()
    names = tuple(f"predicted_{name}" for name in flat) or ((_VECTOR,) if task == "embed" else (_LIST,))
    twice = next((name for name in names if name in inputs.columns), None)
    if twice is not None:
        raise InputError(
            f"--out {out}: the table has a column `{twice}` already, which the results need; rename it."
        )
    return names


def write_predictions(out: Path, inputs: Inputs, results: Sequence[Any], names: tuple[str, ...]) -> None:
    """Write one row for each item, whole or not at all.

    Raises:
        InputError: the file cannot be written, or Parquet has no type for a column.
    """
    temporary = out.with_name(f".{out.name}.biject-{os.getpid()}-new-0")
    try:
        with temporary.open("xb") as stream:
            if out.suffix.lower() == ".npy":
                np.save(stream, np.asarray(results, dtype=np.float32), allow_pickle=False)
            else:
                columns = (*(inputs.columns or _columns(inputs)), *names)
                _WRITERS[out.suffix.lower()](stream, columns, _records(inputs, results, names))
        temporary.replace(out)
    except OSError as error:
        raise InputError(f"--out {out} cannot be written: {error.strerror or error}.") from error
    finally:
        temporary.unlink(missing_ok=True)


def _columns(inputs: Inputs) -> tuple[str, ...]:
    paired = any(isinstance(item, tuple) for item in inputs.items)
    return ("text", "text_pair") if paired else ("text",)


def _records(inputs: Inputs, results: Sequence[Any], names: tuple[str, ...]) -> Records:
    found: Records = []
    for place, (item, result) in enumerate(zip(inputs.items, results, strict=True)):
        if inputs.records:
            record = dict(inputs.records[place])
        else:
            record = dict(
                zip(("text", "text_pair"), (item,) if isinstance(item, str) else item, strict=False)
            )
        if names == (_VECTOR,):
            record[_VECTOR] = result.tolist()
        elif names == (_LIST,):
            record[_LIST] = result
        else:
            record |= {name: result[0][name.removeprefix("predicted_")] for name in names}
        found.append(record)
    return found


def _write_csv(stream: BinaryIO, columns: tuple[str, ...], records: Records) -> None:
    rows = ([_cell(record.get(name)) for name in columns] for record in records)
    writer = csv.writer(_Lines(stream), lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)


class _Lines:
    """Takes text for a binary file."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        return self.stream.write(_bytes(text))


def _cell(value: Any) -> Any:
    """What CSV has no form for is JSON."""
    if value is None:
        return ""
    return _json(value) if isinstance(value, list | dict | bool) else value


def _write_jsonl(stream: BinaryIO, columns: tuple[str, ...], records: Records) -> None:
    for record in records:
        stream.write(_bytes(f"{_json(record)}\n"))


def _bytes(text: str) -> bytes:
    """UTF-8; half of a surrogate pair, which has no form there, as JSON writes it."""
    return text.encode(errors="backslashreplace")


def _storable(value: Any) -> Any:
    return _bytes(value).decode() if isinstance(value, str) else value


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _write_parquet(stream: BinaryIO, columns: tuple[str, ...], records: Records) -> None:
    arrow, parquet = (pyarrow(name, purpose="Parquet") for name in ("pyarrow", "pyarrow.parquet"))
    try:
        table = {name: _column(arrow, name, [record.get(name) for record in records]) for name in columns}
        parquet.write_table(arrow.table(table), stream)
    except (arrow.ArrowException, ValueError, TypeError) as error:
        raise InputError(
            f"--out: the table has no form in Parquet, {shown(str(error))}; choose .jsonl."
        ) from error


def _column(arrow: Any, name: str, values: list[Any]) -> Any:
    """As Arrow has it; values of several kinds as JSON, since what was computed is worth keeping."""
    values = [_storable(value) for value in values]
    try:
        return arrow.array(values)
    except (arrow.ArrowException, ValueError, TypeError, OverflowError):
        notice("mixed-column", f"--out: column `{name}` has values of several kinds and is written as JSON.")
        return arrow.array([_storable(_json(value)) for value in values])


_WRITERS: dict[str, Callable[[BinaryIO, tuple[str, ...], Records], None]] = {
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
}
