"""Classes: which there are, and what each label is as a number."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from biject.data.table import Rows
from biject.errors import InputError, shown
from biject.events import notice

WHOLE = re.compile(r"[+-]?\d+")
_SUSPICIOUS = 20  # rows from which on a class of its own for each is taken for a mistake


@dataclass(frozen=True, kw_only=True)
class Classes:
    """Cells of class labels as ids."""

    ids: list[list[int]]
    names: tuple[str, ...]

    @classmethod
    def of(
        cls, rows: Rows, column: str, cells: Sequence[Sequence[object]], names: Sequence[str] | None
    ) -> Classes:
        """Look every label up, or find out which there are.

        Numbers whose names the source knows are looked up by these names, in any case of letters; they are
        ids of `names` only where the two have no name in common.

        Raises:
            InputError: A label has the wrong type or is unknown, there is only one, or every row has its own.
        """
        texts = _uniform(rows, column, cells)
        known = tuple(names) if names is not None else rows.class_names.get(column)
        if known is None:
            known = _discover(rows, column, texts)
        index = _lookup(rows, column, texts, known)

        def ids(row: int, cell: Sequence[str]) -> list[int]:
            unknown = next((text for text in cell if text not in index), None)
            if unknown is not None:
                said = _name_of(unknown, rows.class_names.get(column, ()))
                raise rows.fault(row, column, f"unknown label {shown(said)}; known are {some(known)}.")
            return [index[text] for text in cell]

        return cls(ids=rows.each(texts, ids), names=known)


def _discover(rows: Rows, column: str, cells: Sequence[Sequence[str]]) -> tuple[str, ...]:
    found = {text for cell in cells for text in cell}
    if len(found) < 2:
        only = f"only {shown(next(iter(found)))}" if found else "none"
        raise InputError(
            f"{rows.source}, column `{column}`: expected two different labels or more, found {only}."
        )
    if len(found) == len(cells) >= _SUSPICIOUS:
        raise InputError(
            f"{rows.source}, column `{column}`: every one of the {len(cells)} rows has a label of its own. "
            "Name the column of the labels, or set `problem_type` to regression."
        )
    if all(WHOLE.fullmatch(text) for text in found):
        return tuple(sorted(found, key=int))
    return tuple(sorted(found))


def _lookup(rows: Rows, column: str, cells: Sequence[Sequence[str]], names: Sequence[str]) -> dict[str, int]:
    """Ids by the values in the rows: names, or numbers where all rows have numbers and no name is one."""
    own = rows.class_names.get(column)
    if own is not None:
        index = _by_name(own, names)
        if index:
            return index
    else:
        whole = all(WHOLE.fullmatch(text) for cell in cells for text in cell) and any(cells)
        if not whole or any(WHOLE.fullmatch(name) for name in names):
            return {name: i for i, name in enumerate(names)}
    meaning = ", ".join(f"{i} = {name}" for i, name in enumerate(names[:5]))
    notice("label-ids", f"Numbers in column `{column}` are read as ids of the model's labels: {meaning}.")
    return {str(i): i for i in range(len(names))}


def _by_name(own: Sequence[str], names: Sequence[str]) -> dict[str, int]:
    """The place in `names` of each number whose name is there; capitals count only where they decide."""
    exact = {name: i for i, name in enumerate(names)}
    folded = [name.casefold() for name in names]
    index = {}
    for number, name in enumerate(own):
        fold = name.casefold()
        if name in exact:
            index[str(number)] = exact[name]
        elif folded.count(fold) == 1:
            index[str(number)] = folded.index(fold)
    return index


def _name_of(text: str, own: Sequence[str]) -> str:
    """What a number stands for, where the source knows it."""
    return own[int(text)] if text.isdecimal() and int(text) < len(own) else text


def _uniform(rows: Rows, column: str, cells: Sequence[Sequence[object]]) -> list[list[str]]:
    """All labels as texts; they must be of one type."""
    kinds: list[type] = []
    return rows.each(cells, lambda row, cell: [_as_text(rows, row, column, value, kinds) for value in cell])


def _as_text(rows: Rows, row: int, column: str, value: object, kinds: list[type]) -> str:
    """A label as text; `kinds` has the type of the first one of all."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, str | int):
        raise rows.fault(row, column, f"expected a class as text or whole number, found {shown(value)}.")
    if not kinds:
        kinds.append(type(value))
    if type(value) is not kinds[0]:
        raise rows.fault(
            row, column, f"expected {kinds[0].__name__} as in the rows before, found {shown(value)}."
        )
    return str(value).strip()


def some(names: Sequence[str]) -> str:
    """The first names, for a message."""
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(shown(name) for name in names[:10]) + more
