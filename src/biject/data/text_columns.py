"""Which columns of a table are texts of pairs, triplets and scored pairs, and which is the score or label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from biject.data.class_ids import some
from biject.data.labels import number_at
from biject.data.table import Rows
from biject.errors import InputError

Kind = Literal["pairs", "triplets", "scored", "labelled"]
_PAIRS = (
    ("anchor", "positive"),
    ("query", "positive"),
    ("question", "positive"),
    ("sentence1", "sentence2"),
    ("sentence_a", "sentence_b"),
    ("sentence_A", "sentence_B"),
    ("text1", "text2"),
    ("query", "document"),
    ("query", "passage"),
    ("query", "answer"),
    ("question", "answer"),
    ("premise", "hypothesis"),
)
_INFERENCE = ("premise", "hypothesis")
"""Their `label` is a class: what one text says of the other."""
_ALONE = ("sentence", "text")
_LABELS = ("score", "label", "similarity_score", "scores", "labels")


@dataclass(frozen=True, kw_only=True)
class TextColumns:
    """What a table holds.

    Attributes:
        kind: Of data.
        texts: Columns of texts in their order: anchor, positive, negatives.
        label: Column of scores or classes, or None.
    """

    kind: Kind
    texts: tuple[str, ...]
    label: str | None


def find_columns(rows: Rows, texts: str | Sequence[str] | None, label: str | None) -> TextColumns:
    """The requested columns, else those of usual names.

    Raises:
        InputError: There are none of these names, or they make no data that can be learned from.
    """
    requested = (texts,) if isinstance(texts, str) else tuple(texts or ())
    for name in (*requested, *([label] if label else [])):
        rows.values(name)
    named = requested or _usual(rows)
    if named == _INFERENCE and label is None and "label" in rows.columns:
        raise InputError(
            f"{rows.source}: `label` beside premise and hypothesis has classes as a rule, not scores. Name "
            "it as label_column if it has scores; else keep the rows whose texts belong together, without it."
        )
    label = label or next((name for name in _LABELS if name in rows.columns and name not in named), None)
    if len(named) == 1:
        if label is None:
            raise InputError(
                f"{rows.source}: one column of texts needs one of labels ({_listed(_LABELS)}); it has "
                f"{rows.named()}. Name it as label_column, or name two columns of texts as text_column."
            )
        return TextColumns(kind="labelled", texts=named, label=label)
    if len(named) == 2:
        return TextColumns(kind="pairs" if label is None else "scored", texts=named, label=label)
    if label is not None and not requested:
        raise InputError(
            f"{rows.source} has negatives ({', '.join(named[2:])}) and a column `{label}`: name the columns "
            "to learn from as text_column, and label_column for scored pairs."
        )
    return TextColumns(kind="triplets", texts=named, label=None)


def _usual(rows: Rows) -> tuple[str, ...]:
    pair = next((pair for pair in _PAIRS if all(name in rows.columns for name in pair)), None)
    if pair is not None:
        negatives = (name for name in rows.columns if name.startswith("negative"))
        return (*pair, *(negatives if pair[1] == "positive" else ()))
    alone = next((name for name in _ALONE if name in rows.columns), None)
    if alone is not None:
        return (alone,)
    pairs = "; ".join(f"{a}, {b}" for a, b in _PAIRS[:4])
    raise InputError(
        f"{rows.source} has no columns of usual names ({pairs}; …; sentence or text with a label); it has "
        f"{rows.named()}. Name them as text_column, in the order anchor, positive, negatives."
    )


def scores(rows: Rows, column: str) -> list[float]:
    """A column's numbers.

    Raises:
        InputError: One is none, or they are numbers of classes, more than two.
    """
    classes = rows.class_names.get(column, ())
    if len(classes) > 2:
        raise InputError(
            f"{rows.source}, column `{column}`: expected scores, found numbers of classes, {some(classes)}."
            " Name a column of scores as label_column, or keep the rows whose texts belong together, without "
            "it."
        )
    what = "a score, a number;"
    return rows.each(
        rows.column(column), lambda row, value: number_at(rows, row, column, value, expected=what)
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
