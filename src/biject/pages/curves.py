"""The charts of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from biject.pages.chart import Across, Chart, make_chart
from biject.pages.evaluated import chosen_step
from biject.pages.read import Run
from biject.pages.series import Point, Series, rates, smoothed
from biject.pages.words import metric_name, number

_MOST_METRICS = 6
_MOST_NAMES = 100
"""Each is compared with those before it."""
_MOST_RANKS = 8
_TOGETHER = {
    "Rewards": {"reward_chosen": "chosen", "reward_rejected": "rejected"},
    "Log-probabilities of completions": {"logps_chosen": "chosen", "logps_rejected": "rejected"},
}
"""Metrics that say something beside each other alone: that both of a pair's completions become unlikelier."""
_NO_SHARES = ("margin", "mse", "mae", "perplexity")
"""Never drawn among shares, small as they may be."""
_WORK = ("work_ms", "wait_ms")
_LEAST_SMOOTHED = 20
"""Fewer steps are their own curve."""


def charts(run: Run) -> tuple[Chart, ...]:
    """Loss, evaluations, learning rate, gradient norm, throughput; those that have values."""
    steps, evaluations = run.ordered(run.steps), run.ordered(run.evaluations)
    loss = [*_with_raw("training", _points(steps, "loss"))]
    loss.append(Series(name="evaluation", points=tuple(_points(evaluations, "loss")), kind="line", color=1))
    loss.append(Series(name="evaluation", points=tuple(_points(evaluations, "loss")), kind="dots", color=1))
    across = reach([run], mark=chosen_step(run))
    plain = replace(across, mark=None)
    rate = f"{unit(run)} a second"
    found = [
        make_chart("Loss", loss, across=across),
        *_metrics(evaluations, across),
        make_chart("Learning rate", _one("learning rate", _points(steps, "lr")), low=0.0, across=plain),
        make_chart("Gradient norm", _with_raw("gradient norm", _points(steps, "grad_norm")), across=plain),
        make_chart(rate, _with_raw(rate.lower(), _rates(steps)), low=0.0, across=plain),
        make_chart("Processes: % of the time at work", _at_work(steps), low=0.0, high=100.0, across=plain),
        make_chart("Processes: share of the tokens, %", _shares(steps), low=0.0, high=100.0, across=plain),
        make_chart("Steps of the slowest process between meetings", _anchor(steps), low=0.0, across=plain),
    ]
    return tuple(chart for chart in found if chart is not None)


def reach(runs: Sequence[Run], *, mark: int | None = None) -> Across:
    """From step 0 to the newest of any of the runs; the mark is the step that the model is from."""
    last = max((step for run in runs for step in (*run.steps, *run.evaluations)), default=1)
    return Across(last=float(last), mark=None if mark is None else float(mark), meaning="the model’s step")


def _at_work(steps: Sequence[Mapping[str, Any]]) -> list[Series]:
    """Of each process the share of a step that it did not wait for the others, smoothed."""
    by_rank: dict[int, list[Point]] = {}
    for step in steps:
        parts = step.get("by_rank")
        for rank, part in enumerate(parts[:_MOST_RANKS] if isinstance(parts, list) else ()):
            work, wait = (number(part.get(name)) if isinstance(part, dict) else None for name in _WORK)
            if work is not None and wait is not None and work + wait > 0:
                by_rank.setdefault(rank, []).append((float(step["step"]), 100 * work / (work + wait)))
    return [
        Series(name=f"process {rank}", points=tuple(smoothed(points)), color=rank)
        for rank, points in by_rank.items()
    ]


def _shares(steps: Sequence[Mapping[str, Any]]) -> list[Series]:
    """Of each process what it did of all tokens."""
    by_rank: dict[int, list[Point]] = {}
    for step in steps:
        parts = step.get("by_rank")
        parts = [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
        tokens = [number(part.get("tokens")) or 0.0 for part in parts]
        for rank, own in enumerate(tokens[:_MOST_RANKS] if sum(tokens) > 0 else ()):
            by_rank.setdefault(rank, []).append((float(step["step"]), 100 * own / sum(tokens)))
    return [
        Series(name=f"process {rank}", points=tuple(points), color=rank) for rank, points in by_rank.items()
    ]


def _anchor(steps: Sequence[Mapping[str, Any]]) -> list[Series]:
    """The anchor over time, of processes that step by themselves."""
    points: list[Point] = []
    for step in steps:
        meeting = step.get("meeting")
        anchor = number(meeting.get("anchor")) if isinstance(meeting, dict) else None
        if anchor is not None:
            points.append((float(step["step"]), anchor))
    return [Series(name="anchor", points=tuple(points), color=0)] if points else []


def loss_of(run: Run, *, name: str, color: int) -> Series:
    """The smoothed training loss, to lay several runs over each other."""
    points = _points(run.ordered(run.steps), "loss")
    return Series(name=name, points=tuple(smoothed(points)), color=color)


def metric_of(run: Run, metric: str, *, name: str, color: int) -> list[Series]:
    """A metric of the evaluations; dots show one that is alone."""
    return _dotted(name, _points(run.ordered(run.evaluations), metric), color=color)


def metric_names(run: Run) -> list[str]:
    """What the newest evaluation has beside the loss."""
    rows = run.ordered(run.evaluations)
    left_out = ("step", "time", "seconds", "loss")
    return [name for name, value in (rows[-1] if rows else {}).items()
            if name not in left_out and number(value) is not None]  # fmt: skip


def unit(run: Run) -> str:
    """What steps are counted in."""
    return "Pictures" if run.recipe.get("task") == "imgcls" else "Tokens"


def tokens_per_second(steps: Sequence[Mapping[str, Any]]) -> float | None:
    """The median over the steps, which evaluations between them do not lower."""
    found = sorted(rate for _, rate in _rates(steps))
    return found[len(found) // 2] if found else None


def _rates(steps: Sequence[Mapping[str, Any]]) -> list[Point]:
    seconds = _points(steps, "seconds")
    tokens = [number(step.get("tokens")) or 0.0 for step in steps if number(step.get("seconds")) is not None]
    found = [(at, number(rate)) for at, rate in rates(seconds, tokens)]
    return [(at, rate) for at, rate in found if rate is not None and rate > 0]


def _metrics(evaluations: Sequence[Mapping[str, Any]], across: Across) -> Iterable[Chart | None]:
    """Shares in one chart, what belongs together in one, others each in their own; one point is no curve."""
    shares: list[Series] = []
    others: list[Chart | None] = []
    together = {name for names in _TOGETHER.values() for name in names}
    for name in [*evaluations[-1]][:_MOST_NAMES] if len(evaluations) > 1 else ():
        points = _points(evaluations, name)
        if name in ("step", "time", "seconds", "loss", *together) or not points:
            continue
        same = next((place for place, one in enumerate(shares) if one.points == tuple(points)), None)
        if same is not None:  # accuracy and F1 micro of single labels, for one
            both = f"{shares[same].name}, {metric_name(name)}"
            shares = [replace(one, name=both) if one.name == shares[same].name else one for one in shares]
        elif name not in _NO_SHARES and all(-1 <= y <= 1 for _, y in points):
            shares += _dotted(metric_name(name), points, color=len(shares) // 2)
        else:
            series = _dotted(metric_name(name), points, color=1)
            others.append(make_chart(metric_name(name), series, across=across))
    for title, names in _TOGETHER.items() if len(evaluations) > 1 else ():
        pair = [
            one
            for color, (name, shown) in enumerate(names.items())
            for one in _dotted(shown, _points(evaluations, name), color=color)
        ]
        others.append(make_chart(title, pair, across=across))
    return [make_chart("Evaluation", shares[: 2 * _MOST_METRICS], across=across), *others[:_MOST_METRICS]]


def _dotted(name: str, points: list[Point], *, color: int) -> list[Series]:
    return [Series(name=name, points=tuple(points), kind=kind, color=color) for kind in ("line", "dots")]


def _points(rows: Sequence[Mapping[str, Any]], name: str) -> list[Point]:
    found = [(float(row["step"]), number(row.get(name))) for row in rows]
    return [(x, y) for x, y in found if y is not None]


def _one(name: str, points: list[Point]) -> list[Series]:
    return [Series(name=name, points=tuple(points))]


def _with_raw(name: str, points: list[Point]) -> list[Series]:
    if len(points) < _LEAST_SMOOTHED or all(a[1] == b[1] for a, b in pairwise(points)):
        return _one(name, points)
    return [
        Series(name=f"{name}, each step", points=tuple(points), kind="faint"),
        Series(name=f"{name}, smoothed", points=tuple(smoothed(points))),
    ]
