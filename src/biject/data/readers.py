"""Files to tables without any library: CSV, TSV, JSON lines, JSON, CoNLL columns, plain text."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biject.config.recipe import TextUnit
from biject.data.delimited import find_delimiter, parse
from biject.data.squad import flat_rows, is_nested
from biject.data.table import RowError
from biject.errors import InputError, shown


@dataclass(frozen=True, kw_only=True)
class Table:
    """What a file holds; see `Rows` for the attributes."""

    columns: tuple[str, ...]
    records: Sequence[Mapping[str, Any]]
    numbers: Sequence[int]
    unit: str = "line"


class Faults(list[str]):
    """What is wrong with rows that are left out; without `skip` the first one is raised."""

    def __init__(self, *, skip: bool = False) -> None:
        super().__init__()
        self.skip = skip

    def note(self, message: str) -> None:
        """Keep it, or raise it."""
        if not self.skip:
            raise RowError(message, number=0)
        self.append(message)


def read_delimited(path: Path, faults: Faults, delimiter: str | None) -> Table:
    """Values between delimiters, quotes as in CSV; None finds the delimiter of a .csv file."""
    text = read_text(path)
    mark = find_delimiter(path, text) if delimiter is None else delimiter
    names, records, numbers = parse(path, text, mark, faults)
    return Table(columns=tuple(names), records=records, numbers=numbers)


def read_jsonl(path: Path, faults: Faults) -> Table:
    """One JSON object a line."""
    return _json_lines(path, read_text(path), faults)


def read_json(path: Path, faults: Faults) -> Table:
    """A list of objects, alone or as `data`; SQuAD's nested form; or JSON lines after all."""
    text = read_text(path)
    try:
        parsed = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            return _json_lines(path, text, faults)
        raise InputError(f"{path}, line {error.lineno}: expected JSON, {error.msg}.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected JSON, found a number or nesting beyond reason.") from error
    if is_nested(parsed):
        return _objects(path, flat_rows(parsed, str(path)), faults)
    records = parsed.get("data") if isinstance(parsed, dict) and "data" in parsed else parsed
    if isinstance(records, dict):
        records = [records]
    if not isinstance(records, list):
        raise InputError(f"{path}: expected a list of JSON objects, found {type(parsed).__name__}.")
    return _objects(path, records, faults)


def read_lines(path: Path, faults: Faults | None = None) -> Table:
    """Plain text, one row a line (column `text`); blank lines are left out."""
    lines = read_text(path).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    kept = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not kept:
        raise InputError(f"{path} has no rows: every line is blank.")
    return Table(
        columns=("text",),
        records=[{"text": line} for _, line in kept],
        numbers=[number for number, _ in kept],
    )


def read_plain(path: Path, unit: TextUnit) -> Table:
    """Plain text by paragraphs, between which there are blank lines, or as one row."""
    if unit == "line":
        return read_lines(path)
    lines = read_text(path).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    starts = [n for n, line in enumerate(lines) if line.strip() and (n == 0 or not lines[n - 1].strip())]
    if unit == "document":
        starts = starts[:1]
    ends = [*starts[1:], len(lines)]
    texts = ["\n".join(lines[a:b]).rstrip() for a, b in zip(starts, ends, strict=True)]
    return Table(
        columns=("text",),
        records=[{"text": text} for text in texts],
        numbers=[start + 1 for start in starts],
    )


def read_conll(path: Path, faults: Faults) -> Table:
    """Columns of words and tags, blank lines between sentences: columns `tokens` (the first) and `tags` (the
    last), between tabs where a line has any, else between spaces. `-DOCSTART-` lines and comments before a
    sentence (`# key = value`, MultiCoNER's `# id …`, `# newdoc`) are left out.
    """
    records: list[dict[str, list[str]]] = []
    numbers: list[int] = []
    tokens: list[str] = []
    tags: list[str] = []
    damaged = False
    for number, line in enumerate([*read_text(path).replace("\r\n", "\n").split("\n"), ""], 1):
        cells = _cells(line)
        comment = not tokens and _is_comment(line, cells)
        if cells and not comment and cells[0] != "-DOCSTART-":
            if len(cells) < 2:
                faults.note(f"{path}, line {number}: expected a word and its tag, found {shown(line)}.")
                damaged = True
                continue
            numbers += [] if tokens else [number]
            tokens.append(cells[0])
            tags.append(cells[-1])
        elif not cells and (tokens or damaged):
            if damaged:  # the sentence would be another one without its word
                numbers = numbers[: len(records)]
            else:
                records.append({"tokens": tokens, "tags": tags})
            tokens, tags, damaged = [], [], False
    if not records:
        raise InputError(f"{path} has no sentences: every line is blank or a comment.")
    return Table(columns=("tokens", "tags"), records=records, numbers=numbers)


def _cells(line: str) -> list[str]:
    """A line's columns; other spaces than the ASCII one are part of a word."""
    mark = "\t" if "\t" in line else " "
    return [found for cell in line.split(mark) if (found := cell.strip())]


def _is_comment(line: str, cells: Sequence[str]) -> bool:
    if not line.startswith("# ") or not cells:
        return False
    named = line.split()[1:2] in (["id"], ["newdoc"], ["newpar"])
    return named or " = " in line or "=" in cells[-1]


READERS: dict[str, Callable[[Path, Faults], Table]] = {
    ".csv": lambda path, faults: read_delimited(path, faults, None),
    ".tsv": lambda path, faults: read_delimited(path, faults, "\t"),
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".json": read_json,
    ".txt": read_lines,
    ".conll": read_conll,
    ".bio": read_conll,
    ".iob": read_conll,
    ".iob2": read_conll,
}


def read_text(path: Path) -> str:
    """The whole file, which must be UTF-8 (with or without a byte-order mark).

    Raises:
        InputError: It is not there, cannot be read, is empty or holds anything but text.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    if not data.strip():
        raise InputError(f"{path} is empty.")
    nul = data.find(b"\0")
    if nul >= 0:
        wide = " It looks like UTF-16: save it as UTF-8." if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise InputError(
            f"{path}, line {_line(data, nul)}: expected text, found binary data (a zero byte).{wide}"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        start = error.start
        raise InputError(
            f"{path}, line {_line(data, start)}: expected UTF-8, found byte 0x{data[start]:02x}. Save the "
            "file as UTF-8."
        ) from error
    if not text.strip():
        raise InputError(f"{path} is empty.")
    return text


def _line(data: bytes, offset: int) -> int:
    return data.count(b"\n", 0, offset) + 1


def _json_lines(path: Path, text: str, faults: Faults) -> Table:
    records, numbers = [], []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as error:
            faults.note(
                f"{path}, line {number}: expected one JSON object a line, {error.msg} "
                f"at column {error.colno}."
            )
            continue
        except (ValueError, RecursionError):
            faults.note(f"{path}, line {number}: a number or nesting beyond reason.")
            continue
        numbers.append(number)
    return _objects(path, records, faults, numbers)


def _objects(
    path: Path, records: Sequence[Any], faults: Faults, numbers: Sequence[int] | None = None
) -> Table:
    """JSON's values, each of which must be an object."""
    unit = "record" if numbers is None else "line"
    places = range(1, len(records) + 1) if numbers is None else numbers
    columns: dict[str, None] = {}
    good: list[tuple[int, dict[str, Any]]] = []
    for place, record in zip(places, records, strict=True):
        if not isinstance(record, dict):
            what = "NaN" if isinstance(record, float) and math.isnan(record) else shown(record)
            faults.note(
                f"{path}, {unit} {place}: expected a JSON object of column names and values, found {what}."
            )
            continue
        columns.update(dict.fromkeys(record))
        good.append((place, record))
    if not good:
        raise InputError(f"{path} has no rows.")
    return Table(
        columns=tuple(columns),
        records=[record for _, record in good],
        numbers=[place for place, _ in good],
        unit=unit,
    )
