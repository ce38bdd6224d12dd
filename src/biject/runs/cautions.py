"""What to know of a run's data: nothing is wrong with them, but somebody may be misled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from biject.data.dataset import Dataset, Ids
from biject.data.table import Rows
from biject.runs.samples import Part, Samples

_UNREAD = ("label", "labels")


def cautions(task: str, samples: Samples) -> list[str]:
    """A line for the user for each.

    Args:
        task: What is trained.
        samples: On which, and what is held out.
    """
    lines: list[str] = []
    if task in ("seqcls", "tokcls") and samples.evaluation is not None:
        lines += _shared(samples.train, samples.evaluation)
    if task == "mlm":
        lines += _unread(samples.rows)
    return [f"DATA note: {line}" for line in lines]


def _shared(train: Sequence[Any], evaluation: Sequence[Any]) -> Iterator[str]:
    """Texts that are evaluated and trained on: after tokenizing, so that case and spaces do not hide them."""
    held_out = list(_keys(evaluation))
    trained = set(held_out).intersection(_keys(train))
    num = sum(key in trained for key in held_out)
    if num:
        yield (
            f"{num} of {len(held_out)} evaluation samples are trained on, too: the numbers will be better "
            "than those of new texts. Leave out duplicates, or keep them on one side."
        )


def _unread(rows: Rows) -> Iterator[str]:
    for name in _UNREAD:
        if name in rows.columns:
            yield (
                f"column `{name}` is not read: masked language modelling learns from the texts alone. "
                "`--task seqcls` learns labels of texts, `--task tokcls` those of words."
            )


def _keys(samples: Sequence[Any]) -> Iterator[tuple[bytes, bytes]]:
    """Each sample's tokens, and which of its texts they are of."""
    whole, indices = (
        (samples.whole, samples.indices) if isinstance(samples, Part) else (samples, range(len(samples)))
    )
    if not isinstance(whole, Dataset):
        return
    columns = [_ids(whole, name) for name in ("input_ids", "token_type_ids")]
    for index in indices:
        ids, types = (b"" if column is None else column.rows[index].tobytes() for column in columns)
        yield ids, types


def _ids(whole: Dataset, name: str) -> Ids | None:
    if not whole.has(name):
        return None
    column = whole.column(name)
    return column if isinstance(column, Ids) else None
