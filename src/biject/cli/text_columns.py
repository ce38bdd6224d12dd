"""Which columns of a table have the texts to predict on."""

from __future__ import annotations

from collections.abc import Sequence

from biject.data.table import Rows
from biject.data.texts import check_text, read_texts
from biject.errors import InputError
from biject.events import notice

Item = str | tuple[str, str]

USUAL = {"text": ("text_pair", "pair"), "question": ("context",)}
"""Usual names, of objects on a line as well: of a text, and of the one that goes with it."""
ALL_USUAL = tuple(name for first, seconds in USUAL.items() for name in (first, *seconds))

_NO_TEXTS = {"id", "idx", "index", "label", "labels"}


def items_of(rows: Rows, requested: Sequence[str] | None) -> tuple[list[Item], tuple[str, ...]]:
    """The texts, or pairs, of a table's rows, and the columns that they stand in.

    Raises:
        InputError: There is no such column, or a row has no text there.
    """
    if requested is not None and len(requested) > 2:
        raise InputError(f"--text-column takes one column, or two for pairs; found {len(requested)}.")
    columns = tuple(requested) if requested is not None else _usual(rows) or _longest(rows)
    firsts = read_texts(rows, columns[0])
    if len(columns) == 1:
        return list(firsts), columns
    if requested is not None:
        return list(zip(firsts, read_texts(rows, columns[1]), strict=True)), columns
    items: list[Item] = []
    for row, first in enumerate(firsts):
        second = rows[row].get(columns[1])
        if second is not None:
            check_text(rows, row, columns[1], second)
        items.append(first if second is None else (first, second))
    return items, columns


def _usual(rows: Rows) -> tuple[str, ...]:
    """By the names that `.jsonl` files have; a second text may be missing in a row."""
    first = next((name for name in USUAL if name in rows.columns), None)
    second = next((name for name in USUAL.get(first or "", ()) if name in rows.columns), None)
    return () if first is None else (first,) if second is None else (first, second)


def _longest(rows: Rows) -> tuple[str]:
    """The column with the longest texts, with a notice where there are others."""
    lengths = {name: _mean_length(rows, name) for name in rows.columns}
    texts = {name: length for name, length in lengths.items() if length > 0}
    texts = {name: n for name, n in texts.items() if name.lower() not in _NO_TEXTS} or texts
    if not texts:
        raise InputError(f"{rows.source} has no column of texts; it has {rows.named()}.")
    found = max(texts, key=lambda name: texts[name])
    if len(rows.columns) > 1:
        others = ", ".join(f"`{name}`" for name in rows.columns if name != found)
        notice(
            "text-column",
            f"{rows.source}: texts are read from column `{found}`, which has the longest; the other columns "
            f"are {others}. --text-column names another.",
        )
    return (found,)


def _mean_length(rows: Rows, name: str) -> float:
    """Of a column of texts; 0 for anything else, numbers written as texts included."""
    values = [record.get(name) for record in rows.records]
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) < len([value for value in values if value is not None]) or not any(texts):
        return 0.0
    if all(_is_number(text) for text in texts if text.strip()):
        return 0.0
    return sum(map(len, texts)) / len(texts)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
