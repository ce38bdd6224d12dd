"""Files to tables without any library: CSV, TSV, JSON lines, JSON, CoNLL columns, plain text."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from biject.config.recipe import TextUnit
from biject.data.squad import flat_rows, is_nested
from biject.errors import InputError, shown

_LONGEST_FIELD = 2**30


@dataclass(frozen=True, kw_only=True)
class Table:
    """What a file holds; see `Rows` for the attributes."""

    columns: tuple[str, ...]
    records: Sequence[Mapping[str, Any]]
    numbers: Sequence[int]
    unit: str = "line"


def read_csv(path: Path) -> Table:
    """Values between commas; the first line names the columns."""
    return _delimited(path, ",")


def read_tsv(path: Path) -> Table:
    """Values between tabs; the first line names the columns, and quotes work as in CSV."""
    return _delimited(path, "\t")


def read_jsonl(path: Path) -> Table:
    """One JSON object a line."""
    return _json_lines(path, read_text(path))


def read_json(path: Path) -> Table:
    """A list of objects, alone or as `data`; SQuAD's nested form; or JSON lines after all."""
    text = read_text(path)
    try:
        parsed = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            return _json_lines(path, text)
        raise InputError(f"{path}, line {error.lineno}: expected JSON, {error.msg}.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected JSON, found a number or nesting beyond reason.") from error
    if is_nested(parsed):
        return _objects(path, flat_rows(parsed, str(path)))
    records = parsed.get("data") if isinstance(parsed, dict) and "data" in parsed else parsed
    if isinstance(records, dict):
        records = [records]
    if not isinstance(records, list):
        raise InputError(f"{path}: expected a list of JSON objects, found {type(parsed).__name__}.")
    return _objects(path, records)


def read_lines(path: Path) -> Table:
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


def read_conll(path: Path) -> Table:
    """Columns of words and tags, blank lines between sentences: columns `tokens` (the first) and `tags` (the
    last). `-DOCSTART-` lines and comments of the form `# key = value` are left out.
    """
    records: list[dict[str, list[str]]] = []
    numbers: list[int] = []
    tokens: list[str] = []
    tags: list[str] = []
    for number, line in enumerate([*read_text(path).replace("\r\n", "\n").split("\n"), ""], 1):
        cells = line.split()
        comment = line.startswith("# ") and " = " in line and not tokens
        if cells and not comment and cells[0] != "-DOCSTART-":
            if len(cells) < 2:
                raise InputError(f"{path}, line {number}: expected a word and its tag, found {shown(line)}.")
            numbers += [] if tokens else [number]
            tokens.append(cells[0])
            tags.append(cells[-1])
        elif not cells and tokens:
            records.append({"tokens": tokens, "tags": tags})
            tokens, tags = [], []
    if not records:
        raise InputError(f"{path} has no sentences: every line is blank or a comment.")
    return Table(columns=("tokens", "tags"), records=records, numbers=numbers)


READERS: dict[str, Callable[[Path], Table]] = {
    ".csv": read_csv,
    ".tsv": read_tsv,
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


def _delimited(path: Path, delimiter: str) -> Table:
    text = read_text(path)
    before = csv.field_size_limit(_LONGEST_FIELD)
    try:
        return _parse(path, text, delimiter)
    finally:
        csv.field_size_limit(before)


def _parse(path: Path, text: str, delimiter: str) -> Table:
    """Rows of as many values as there are names; a row's number is that of its first line."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names: list[str] = []
    records, numbers = [], []
    line = 1
    try:
        for values in reader:
            first, line = line, reader.line_num + 1
            if not values:
                continue
            if not names:
                names = _header(path, values, delimiter)
            elif len(values) != len(names):
                raise InputError(
                    f"{path}, line {first}: expected {len(names)} columns as in the header, found "
                    f"{len(values)}. Put quotes around values that contain a {_NAMES[delimiter]} or "
                    "a line's end."
                )
            else:
                records.append(dict(zip(names, values, strict=True)))
                numbers.append(first)
    except csv.Error as error:
        raise InputError(
            f"{path}, line {line}: {error}. Write a quote inside a quoted value twice, and close each."
        ) from error
    if not records:
        raise InputError(f"{path} has no rows below its header.")
    return Table(columns=tuple(names), records=records, numbers=numbers)


_NAMES = {",": "comma", "\t": "tab"}


def _header(path: Path, values: Sequence[str], delimiter: str) -> list[str]:
    names = [value.strip() for value in values]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{path}, line 1: the header has the column {shown(twice[0])} more than once.")
    others = [
        (mark, name) for mark, name in ((";", "semicolon"), ("\t", "tab"), (",", "comma")) if mark in names[0]
    ]
    if len(names) == 1 and others:
        raise InputError(
            f"{path}, line 1: expected columns between {_NAMES[delimiter]}s, found one column "
            f"{shown(names[0])}. The delimiter seems to be a {others[0][1]}: a comma in .csv, a tab in .tsv."
        )
    return names


def _json_lines(path: Path, text: str) -> Table:
    records, numbers = [], []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise InputError(
                f"{path}, line {number}: expected one JSON object a line, {error.msg} "
                f"at column {error.colno}."
            ) from error
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}, line {number}: a number or nesting beyond reason.") from error
        numbers.append(number)
    return _objects(path, records, numbers)


def _objects(path: Path, records: Sequence[Any], numbers: Sequence[int] | None = None) -> Table:
    """JSON's values, each of which must be an object."""
    unit = "record" if numbers is None else "line"
    places = range(1, len(records) + 1) if numbers is None else numbers
    columns: dict[str, None] = {}
    for place, record in zip(places, records, strict=True):
        if not isinstance(record, dict):
            _fail_object(path, unit, place, record)
        columns.update(dict.fromkeys(record))
    if not records:
        raise InputError(f"{path} has no rows.")
    return Table(columns=tuple(columns), records=records, numbers=places, unit=unit)


def _fail_object(path: Path, unit: str, place: int, record: object) -> NoReturn:
    what = "NaN" if isinstance(record, float) and math.isnan(record) else shown(record)
    raise InputError(
        f"{path}, {unit} {place}: expected a JSON object of column names and values, found {what}."
    )
