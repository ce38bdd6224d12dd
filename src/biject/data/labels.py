"""The labels of a text classifier or regressor, as numbers."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from biject.config.model import ProblemType
from biject.data.class_ids import WHOLE, Classes, some
from biject.data.dataset import count_labels
from biject.data.several import Several
from biject.data.table import Rows
from biject.errors import InputError, shown
from biject.events import notice

_SEPARATORS = ("|", ";", ",")
_STRAY = 0.1
_DECIMALS = 0.25
"""A column of this share of decimal fractions, or more, has amounts; where up to `_STRAY` of it are no
numbers, these are mistakes and no classes.
"""
_DECIMAL = re.compile(r"[+-]?(\d+\.\d*|\.\d+|\d+\.?\d*[eE][+-]?\d+)")


@dataclass(frozen=True, kw_only=True)
class Targets:
    """One label a row: a class, a number, or one number for each of several outputs."""

    values: list[int] | list[float] | list[list[float]] | Several
    names: tuple[str, ...]
    problem_type: ProblemType

    def counts(self) -> dict[str, int]:
        """How often each label occurs; nothing of numbers."""
        if self.problem_type == "regression":
            return {}
        if isinstance(self.values, Several):
            return count_labels(self.names, self.values.ids.rows)
        classes: Any = self.values
        return count_labels(self.names, [[index] for index in classes])


def read_targets(
    rows: Rows,
    column: str | Sequence[str],
    *,
    names: Sequence[str] | None = None,
    problem_type: ProblemType | None = None,
    separator: str | None = None,
) -> Targets:
    """The labels of a text classifier or regressor.

    Args:
        rows: The table.
        column: Column of the labels; several columns are several outputs, 0 or 1 each, or numbers for
            `problem_type="regression"`.
        names: Classes that exist already, by their ids; a label that is none of them is an error. Left out:
            the different labels, sorted.
        problem_type: Left out: lists (or a `separator`) are several labels at once (lists of 0 and 1 of one
            length: one number an output), decimal fractions are regression, anything else is one class a row.
        separator: What separates several labels in one text.
    """
    if not isinstance(column, str):
        return _from_columns(rows, tuple(column), names, problem_type)
    may_be_empty = separator is not None or problem_type == "multi_label_classification"
    values = rows.column(column) if may_be_empty else _present(rows, column)
    problem = problem_type or _infer(rows, column, values, separator, names)
    if problem == "regression":
        numbers = rows.each(values, lambda row, value: number_at(rows, row, column, value))
        return Targets(values=numbers, names=tuple(names or ("LABEL_0",)), problem_type=problem)
    if problem == "single_label_classification":
        cells = [[value] for value in values]
        _warn_of_several(rows, column, values)
    else:
        cells = rows.each(values, lambda row, value: _several(rows, row, column, value, separator))
        if column not in rows.class_names and _are_outputs(cells, names):
            return _from_outputs(rows, column, cells, names)
    classes = Classes.of(rows, column, cells, names)
    if problem == "single_label_classification":
        return Targets(values=[ids[0] for ids in classes.ids], names=classes.names, problem_type=problem)
    several = Several(classes.ids, size=len(classes.names))
    return Targets(values=several, names=classes.names, problem_type=problem)


def _warn_of_several(rows: Rows, column: str, values: Sequence[object]) -> None:
    """Say where classes look like several labels in one text: their parts are found in other rows as well."""
    texts = {value for value in values if isinstance(value, str)}
    for separator in _SEPARATORS:
        parts = {text: {part.strip() for part in text.split(separator)} for text in texts}
        count = Counter(part for some in parts.values() for part in some)
        likely = [t for t, some in parts.items() if len(some) > 1 and all(count[part] > 1 for part in some)]
        if likely:
            notice(
                f"several-labels-{column}",
                f"{rows.source}, column `{column}`: {len(likely)} classes look like several labels in one "
                f"text, such as {shown(min(likely))}. Each is learned as a class of its own; for several "
                f"labels at once give label_separator={separator!r}.",
            )
            return


def _absent(value: object) -> bool:
    empty = value is None or (isinstance(value, str) and not value.strip())
    return empty or (isinstance(value, float) and math.isnan(value))


def _present(rows: Rows, column: str) -> list[object]:
    values = rows.column(column)
    absent = [row for row, value in enumerate(values) if _absent(value)]
    if absent:
        raise rows.faults(absent, column, lambda row: "expected a label, found none.")
    return values


def _infer(
    rows: Rows, column: str, values: Sequence[object], separator: str | None, names: Sequence[str] | None
) -> ProblemType:
    if separator is not None or any(isinstance(value, list | tuple) for value in values):
        return "multi_label_classification"
    if names is not None and len(names) == 1:
        return "regression"
    if names is not None or column in rows.class_names:
        return "single_label_classification"
    decimal = [_is(value, float, _DECIMAL) for value in values]
    other = [row for row, value in enumerate(values) if not decimal[row] and not _is(value, int, WHOLE)]
    few = sum(decimal) < _DECIMALS * len(values) or len(other) > _STRAY * len(values)
    if not any(decimal) or (other and few):
        return "single_label_classification"
    if other:
        raise rows.faults(
            other,
            column,
            lambda row: (
                "expected a number, as nearly all labels are, with decimal fractions; found "
                f"{shown(values[row])}. Mend it or leave the row out; if these are classes all the same, set "
                "problem_type: single_label_classification."
            ),
        )
    if all(float(str(value)).is_integer() for value in values):
        raise InputError(
            f"{rows.source}, column `{column}`: whole numbers written as fractions ({shown(values[0])}) may "
            "be classes or amounts. Give problem_type: single_label_classification or regression."
        )
    return "regression"


def _is(value: object, kind: type, pattern: re.Pattern[str]) -> bool:
    if isinstance(value, str):
        return bool(pattern.fullmatch(value.strip()))
    return isinstance(value, kind) and not isinstance(value, bool)


def number_at(rows: Rows, row: int, column: str, value: object, *, expected: str = "a number,") -> float:
    """A cell's finite number, which may be written as text.

    Raises:
        InputError: It is none.
    """
    try:
        number = float(value) if isinstance(value, str | int | float) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise rows.fault(row, column, f"expected {expected} found {shown(value)}.")
    return number


def _several(rows: Rows, row: int, column: str, value: object, separator: str | None) -> list[object]:
    if isinstance(value, list | tuple):
        return list(value)
    if _absent(value):
        return []
    if isinstance(value, str) and separator:
        return [part.strip() for part in value.split(separator) if part.strip()]
    how = f"labels between {separator!r}" if separator else "a list of labels, or a separator between them"
    raise rows.fault(row, column, f"expected {how}, found {shown(value)}.")


def _are_outputs(cells: Sequence[Sequence[object]], names: Sequence[str] | None) -> bool:
    """Whether lists have a 0 or 1 for each output: as lists of classes, one would name a class twice, or each
    would name both of two.
    """
    if not all(isinstance(value, int | float) and value in (0, 1) for cell in cells for value in cell):
        return False
    two = all(len(cell) == 2 for cell in cells) and (names is None or len(names) == 2)
    unsorted = two and any(tuple(cell) == (1, 0) for cell in cells)
    return unsorted or any(len(set(cell)) < len(cell) for cell in cells)


def _from_outputs(
    rows: Rows, column: str, cells: Sequence[Sequence[object]], names: Sequence[str] | None
) -> Targets:
    """One list a row, with a 0 or 1 for each output."""
    size = Counter(len(cell) for cell in cells).most_common(1)[0][0]
    if names is not None and len(names) != size:
        raise InputError(
            f"{rows.source}, column `{column}`: expected lists of {len(names)} numbers, 0 or 1 for each "
            f"label ({some(names)}); found {size} numbers."
        )
    wrong = [row for row, cell in enumerate(cells) if len(cell) != size]
    if wrong:
        raise rows.faults(
            wrong,
            column,
            lambda row: f"expected {size} numbers, 0 or 1 for each output, found {len(cells[row])}.",
        )
    found = tuple(names) if names is not None else tuple(f"LABEL_{i}" for i in range(size))
    ids = ([index for index, value in enumerate(cell) if value] for cell in cells)
    return Targets(values=Several(ids, size=size), names=found, problem_type="multi_label_classification")


def _from_columns(
    rows: Rows, columns: tuple[str, ...], names: Sequence[str] | None, problem: ProblemType | None
) -> Targets:
    """One output a column."""
    problem = problem or "multi_label_classification"
    if problem == "single_label_classification" or not columns or (names and len(names) != len(columns)):
        raise InputError(
            f"{len(columns)} label columns fit several labels at once or regression with as many outputs; "
            f"found {problem}, {len(names or columns)} outputs."
        )
    grid = rows.each(columns, lambda _, column: _present(rows, column))
    several = problem != "regression"

    def read(row: int, cells: Sequence[object]) -> list[Any]:
        numbers = [number_at(rows, row, name, cell) for name, cell in zip(columns, cells, strict=True)]
        for name, number in zip(columns, numbers, strict=True):
            if several and number not in (0, 1):
                raise rows.fault(row, name, f"expected 0 or 1, found {shown(number)}.")
        return [place for place, number in enumerate(numbers) if number] if several else numbers

    made = rows.each(zip(*grid, strict=True), read)
    values = Several(made, size=len(columns)) if several else made
    return Targets(values=values, names=tuple(names or columns), problem_type=problem)
