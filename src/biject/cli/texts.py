"""Texts from arguments, a table, a file of lines, or standard input."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biject.cli.text_columns import USUAL, Item, items_of
from biject.data.table import Rows
from biject.errors import InputError

_TABLES = (".csv", ".tsv", ".json", ".parquet")
_JSON_LINES = (".jsonl", ".ndjson")


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What to predict on.

    Attributes:
        items: Texts, or pairs of texts.
        columns: Of the table that they come from, in its order; none for texts alone.
        records: That table's rows, one for each item.
        used: The columns that the texts stand in.
    """

    items: list[Item]
    columns: tuple[str, ...] = ()
    records: Sequence[Mapping[str, Any]] = ()
    used: tuple[str, ...] = ()

    def others(self, place: int) -> dict[str, Any]:
        """What an item's row has beside the texts."""
        record = self.records[place] if self.records else {}
        return {name: value for name, value in record.items() if name not in self.used}


def read_inputs(
    texts: Sequence[str],
    *,
    file: Path | None,
    pair: str | None = None,
    text_column: Sequence[str] | None = None,
    delimiter: str | None = None,
) -> Inputs:
    """What to predict on: texts, or pairs where `pair` or a row gives the second text.

    Raises:
        InputError: there is none, there are two sources, or a line cannot be read.
    """
    if texts and file is not None:
        raise InputError("Give texts as arguments or in --file, not both.")
    found = Inputs(items=list(texts)) if texts else _read(file, text_column, delimiter)
    if text_column is not None and not found.columns:
        raise InputError(
            f"--text-column needs a table in --file: {', '.join((*_TABLES, *_JSON_LINES))}, or JSON objects "
            "on standard input."
        )
    if pair is None:
        return found
    paired: list[Item] = [(item, pair) if isinstance(item, str) else item for item in found.items]
    return Inputs(items=paired, columns=found.columns, records=found.records, used=found.used)


def _read(file: Path | None, text_column: Sequence[str] | None, delimiter: str | None) -> Inputs:
    if file is not None and file.suffix.lower() in _TABLES:
        return _from_table(_table(file, delimiter), text_column)
    if delimiter is not None:
        raise InputError("--delimiter is for tables: name a .csv or .tsv file by --file.")
    name, data = _source(file)
    lines = _lines(name, data)
    if not lines:
        raise InputError(f"{name} has no text.")
    if not _is_json(file, lines):
        return Inputs(items=[line for _, line in lines])
    values = [_parsed(line, f"{name}, line {n}") for n, line in lines]
    numbers = [n for n, _ in lines]
    firsts = {next((key for key in USUAL if key in v), "") if isinstance(v, dict) else None for v in values}
    if None in firsts and text_column is not None:
        n = next(n for n, value in zip(numbers, values, strict=True) if not isinstance(value, dict))
        raise InputError(f"{name}, line {n} must be a JSON object, as --text-column names one of its keys.")
    if None in firsts or (len(firsts) > 1 and text_column is None):  # each line by itself
        places = [f"{name}, line {n}" for n in numbers]
        items = [_item(value, place) for value, place in zip(values, places, strict=True)]
        records = [value if isinstance(value, dict) else {"text": value} for value in values]
        names = tuple(dict.fromkeys(key for record in records for key in record))
        return Inputs(
            items=items,
            columns=names,
            records=records,
            used=tuple(name for first, seconds in USUAL.items() for name in (first, *seconds)),
        )
    columns = tuple(dict.fromkeys(key for value in values for key in value))
    rows = Rows(source=name, columns=columns, records=values, numbers=numbers, unit="line")
    return _from_table(rows, text_column)


def _table(file: Path, delimiter: str | None) -> Rows:
    from biject.data.parquet import read_parquet
    from biject.data.rows import load_rows

    if file.suffix.lower() == ".parquet":
        return read_parquet(file)
    return load_rows(file, delimiter=delimiter)


def _from_table(rows: Rows, text_column: Sequence[str] | None) -> Inputs:
    items, used = items_of(rows, text_column)
    return Inputs(items=items, columns=rows.columns, records=rows.records, used=used)


def _source(file: Path | None) -> tuple[str, bytes]:
    if file is None or str(file) == "-":
        if sys.stdin is None or sys.stdin.isatty():
            raise InputError("There is no text: give it as arguments, in --file, or on standard input.")
        return "standard input", sys.stdin.buffer.read()
    try:
        return str(file), file.read_bytes()
    except OSError as error:
        raise InputError(f"--file {file} cannot be read: {error.strerror}.") from error


def _lines(name: str, data: bytes) -> list[tuple[int, str]]:
    """Lines with their numbers, blank ones left out."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{name} must be UTF-8 text; byte {error.start} is not.") from error
    lines = [(n, line.removesuffix("\r")) for n, line in enumerate(text.split("\n"), 1)]
    return [(n, line) for n, line in lines if line.strip()]


def _is_json(file: Path | None, lines: list[tuple[int, str]]) -> bool:
    """By a file's name; on standard input by its first character."""
    if file is not None and str(file) != "-":
        return file.suffix.lower() in _JSON_LINES
    return bool(lines) and lines[0][1].lstrip().startswith("{")


def _parsed(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} must be a JSON object, as lines of JSONL are: {error}.") from error


def _item(value: Any, where: str) -> Item:
    """What a line means that is unlike others: a text, or an object with the usual names."""
    if isinstance(value, str):
        return value
    given = value if isinstance(value, dict) else {}
    name = next((key for key in USUAL if key in given), "")
    first = given.get(name)
    second = next((given[key] for key in USUAL.get(name, ()) if given.get(key) is not None), None)
    if not isinstance(first, str) or not isinstance(second, str | None):
        raise InputError(
            f"{where} must have `text` (and `text_pair`), or `question` and `context`, as strings."
        )
    return first if second is None else (first, second)
