"""CSV and its kin: values between commas, semicolons, tabs or bars; the first line names the columns."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from biject.errors import InputError, shown
from biject.events import notice

NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_LONGEST_FIELD = 2**30
_ALIKE = 0.8
"""Of these: a damaged row or two do not hide it."""
_LOOKED_AT = 50
"""Rows by which the delimiter is found."""


def find_delimiter(path: Path, text: str) -> str:
    """A comma, unless rows have one column by commas, or different numbers of them, and several by another.

    Raises:
        InputError: Two other marks would do equally well.
    """
    found = {mark: _columns(text, mark) for mark in NAMES}
    if found[","] > 1:
        return ","
    others = [mark for mark, count in found.items() if count > 1]
    if len(others) > 1:
        named = " and ".join(NAMES[mark] for mark in others)
        raise InputError(f"{path}: columns may be between {named}s: say which, by `delimiter`.")
    if not others:
        return ","
    notice("csv-delimiter", f"{path}: columns are between {NAMES[others[0]]}s.")
    return others[0]


def _columns(text: str, delimiter: str) -> int:
    """Columns that the header and nearly all of the first rows have; 1 where there are none, or quotes do not
    close.
    """
    counts: list[int] = []
    try:
        for place, values in enumerate(
            csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        ):
            if place > _LOOKED_AT:
                break
            if values:
                counts.append(len(values))
    except csv.Error:
        return 1
    alike = counts.count(counts[0]) if counts else 0
    return counts[0] if alike >= _ALIKE * len(counts) else 1


def parse(
    path: Path, text: str, delimiter: str, faults: Any
) -> tuple[list[str], list[dict[str, str]], list[int]]:
    """Names of columns, rows of as many values, and the number of each row: that of its first line.

    Args:
        path: For messages.
        text: The file's.
        delimiter: Between values.
        faults: What is told of rows that have another number of values.

    Raises:
        InputError: There is no header that can be used, there are no rows, or quotes do not close.
    """
    before = csv.field_size_limit(_LONGEST_FIELD)
    try:
        return _parse(path, text, delimiter, faults)
    finally:
        csv.field_size_limit(before)


def _parse(
    path: Path, text: str, delimiter: str, faults: Any
) -> tuple[list[str], list[dict[str, str]], list[int]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names: list[str] = []
    records: list[dict[str, str]] = []
    numbers: list[int] = []
    line = 1
    while True:
        try:
            values = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            faults.note(
                f"{path}, line {line}: {error}. Write a quote inside a quoted value twice, and close each."
            )
            line = reader.line_num + 1
            continue
        first, line = line, reader.line_num + 1
        if not values:
            continue
        if not names:
            names = _header(path, values, delimiter)
        elif len(values) != len(names):
            faults.note(
                f"{path}, line {first}: expected {len(names)} columns as in the header, found "
                f"{len(values)}. Put quotes around values that contain a "
                f"{NAMES.get(delimiter, delimiter)} or a line's end."
            )
        else:
            records.append(dict(zip(names, values, strict=True)))
            numbers.append(first)
    if not records:
        raise InputError(f"{path} has no rows below its header.")
    return names, records, numbers


def _header(path: Path, values: Sequence[str], delimiter: str) -> list[str]:
    names = [value.strip() for value in values]
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise InputError(f"{path}, line 1: the header has the column {shown(twice[0])} more than once.")
    others = [name for mark, name in NAMES.items() if mark != delimiter and mark in names[0]]
    if len(names) == 1 and others:
        raise InputError(
            f"{path}, line 1: expected columns between {NAMES.get(delimiter, delimiter)}s, found one column "
            f"{shown(names[0])}. The delimiter seems to be a {others[0]}: say so by `delimiter`."
        )
    return names
