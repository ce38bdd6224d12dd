"""The evaluations of a run as a table, and which of them the model is from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from biject.pages.read import Run
from biject.pages.words import column, metric_name, number

_MOST_ROWS, _MOST_COLUMNS = 40, 12
_LEFT_OUT = ("time", "seconds")
_CHOSEN = re.compile(r"step (\d{1,15}) of")


@dataclass(frozen=True, kw_only=True)
class Evaluations:
    """A table; empty where nothing was evaluated, or not yet.

    Attributes:
        names: Of the columns.
        rows: Cells, oldest first.
        chosen: The row of the state that the model is in.
        note: What the table leaves out, or why there is none.
    """

    names: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    chosen: int | None = None
    note: str = ""


def evaluations(run: Run) -> Evaluations:
    """At most 40 of them, evenly spread, with the model's own."""
    every = run.ordered(run.evaluations)
    if not every:
        return Evaluations(note=_why_none(run))
    best = chosen_step(run)
    rows = _shown(every, best)
    names = [name for name, value in every[-1].items() if number(value) is not None and name not in _LEFT_OUT]
    names = names[:_MOST_COLUMNS]
    columns = {metric_name(name): column([row.get(name) for row in rows]) for name in names}
    columns["Step"] = [f"{_step(row):,}" for row in rows]
    training = _training(run, every)
    if training:
        beside = column([training.get(_step(row)) for row in rows])
        columns = {"Step": columns.pop("Step"), "Training loss": beside, **columns}
    steps = [_step(row) for row in rows]
    return Evaluations(
        names=tuple(columns),
        rows=tuple(zip(*columns.values(), strict=True)),
        chosen=steps.index(best) if best in steps else None,
        note=_note(len(rows), len(every), training=bool(training)),
    )


def chosen_step(run: Run) -> int | None:
    """The evaluation that the finished model is from, None where it is not known."""
    found = _CHOSEN.match(str((run.end or {}).get("best", "")))
    return int(found[1]) if found and int(found[1]) in run.evaluations else None


def _step(row: Mapping[str, Any]) -> int:
    return int(number(row.get("step")) or 0)


def _shown(rows: list[Mapping[str, Any]], best: int | None) -> list[Mapping[str, Any]]:
    if len(rows) <= _MOST_ROWS:
        return rows
    places = {round(i * (len(rows) - 1) / (_MOST_ROWS - 1)) for i in range(_MOST_ROWS)}
    places |= {place for place, row in enumerate(rows) if _step(row) == best}
    return [rows[place] for place in sorted(places)]


def _training(run: Run, every: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """At each evaluation the mean training loss of the steps since the one before."""
    ends = {_step(row) for row in every}
    found: dict[int, float] = {}
    losses: list[float] = []
    for step in sorted(run.steps):
        loss = number(run.steps[step].get("loss"))
        losses += [] if loss is None else [loss]
        if step in ends and losses:
            found[step], losses = sum(losses) / len(losses), []
    return found


def _note(shown: int, of: int, *, training: bool) -> str:
    parts = [f"{shown} of {of:,} evaluations, evenly spread."] if shown < of else []
    if training:
        parts.append("Training loss: the mean over the steps since the evaluation before.")
    return " ".join(parts)


def _why_none(run: Run) -> str:
    """For those who look for the table."""
    if run.end is None:
        return "None so far."
    return (
        "None: nothing was held out, so how good the model is was not measured. `validation = 0.1` holds a "
        "tenth of the data out; `--eval-data` names other rows."
    )
