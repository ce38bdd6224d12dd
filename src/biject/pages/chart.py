"""A chart as plain data for the template: paths in a box of 1000 × 400, ticks in percent.

The box is stretched to the page's width; texts are HTML beside it, so that they keep their size on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from biject.pages.series import Point, Series, thinned
from biject.pages.words import decimal, tick

WIDTH, HEIGHT = 1000, 400
_TICKS = 4
_SAME = 1e-9
"""A range that is so small a part of its numbers is one number."""
_NOTHING = 1e-300
"""A range that is so small has no steps."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A series as it is drawn."""

    name: str
    kind: str
    color: int
    path: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """What the template draws.

    Attributes:
        title: Above it.
        x_name: What runs along the bottom.
        summary: The same in words, for those who do not see it.
        latest: The newest values, in words.
        curves: Drawn in this order.
        x_ticks: (percent from the left, label).
        y_ticks: (percent from the top, label).
        data: For the values on hover.
        mark: Where a line across it stands, in percent from the left, and what it means.
    """

    title: str
    x_name: str
    summary: str
    latest: str
    curves: tuple[Curve, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    data: dict[str, Any]
    mark: tuple[float, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Across:
    """What charts of one run have in common: how far they reach, and a step that stands out.

    Attributes:
        last: The newest step; all charts begin at 0 and end there, so that they can be read below each other.
        mark: A step.
        meaning: Of the mark.
    """

    last: float
    mark: float | None = None
    meaning: str = ""


def make_chart(
    title: str,
    series: Sequence[Series],
    *,
    x_name: str = "step",
    low: float | None = None,
    high: float | None = None,
    across: Across | None = None,
) -> Chart | None:
    """A chart of some curves; None where there is nothing to draw.

    Args:
        title: Above it.
        series: The curves.
        x_name: What runs along the bottom.
        low: Where the vertical axis begins; left out, at the smallest value.
        high: Where it ends.
        across: What the charts of a run share; left out, the chart is as wide as its points.
    """
    drawn = [(one, thinned(one.points)) for one in series if one.points]
    if not drawn:
        return None
    every = [point for _, points in drawn for point in points]
    shown = _without_spikes(drawn) or every
    bottom = min(y for _, y in shown) if low is None else low
    top = max(y for _, y in shown) if high is None else high
    ticks = nice_ticks(bottom, top)
    bottom, top = min(bottom, ticks[0]), max(top, ticks[-1])
    left, right = min(x for x, _ in every), max(x for x, _ in every)
    if across is not None:
        left, right = 0.0, max(right, across.last)
    frame = _Frame(left, _beyond(left, right), bottom, _beyond(bottom, top))
    return Chart(
        title=title,
        x_name=x_name,
        summary="; ".join(_in_words(one, x_name) for one, _ in drawn if one.kind != "faint"),
        latest=_latest(drawn, x_name),
        curves=tuple(
            Curve(name=one.name, kind=one.kind, color=one.color, path=_path(points, one.kind, frame))
            for one, points in drawn
        ),
        x_ticks=frame.across(),
        y_ticks=tuple((100 * frame.y(at) / HEIGHT, tick(at)) for at in ticks),
        data=_hover(drawn, frame, x_name),
        mark=_mark(across, frame),
    )


def _beyond(low: float, high: float) -> float:
    """The end of an axis, which has a length in numbers of any size."""
    return high if high > low else low + max(1.0, abs(low))


def _mark(across: Across | None, frame: _Frame) -> tuple[float, str] | None:
    if across is None or across.mark is None or not frame.left <= across.mark <= frame.right:
        return None
    return 100 * frame.x(across.mark) / WIDTH, across.meaning


def _hover(drawn: Sequence[tuple[Series, list[Point]]], frame: _Frame, x_name: str) -> dict[str, Any]:
    """What the page's script reads out."""
    series = [
        {"name": one.name, "points": [[_round(x), _round(y)] for x, y in points]} for one, points in drawn
    ]
    return {"x": x_name, "left": frame.left, "right": frame.right, "series": series}


@dataclass(frozen=True)
class _Frame:
    left: float
    right: float
    bottom: float
    top: float

    def across(self) -> tuple[tuple[float, str], ...]:
        """Ticks along the bottom, in percent."""
        inside = [at for at in nice_ticks(self.left, self.right) if self.left <= at <= self.right]
        return tuple((100 * self.x(at) / WIDTH, tick(at)) for at in inside)

    def x(self, value: float) -> float:
        return WIDTH * (value - self.left) / (self.right - self.left)

    def y(self, value: float) -> float:
        place = HEIGHT * (self.top - value) / (self.top - self.bottom)
        return min(max(place, -HEIGHT), 2 * HEIGHT)


def _without_spikes(drawn: Sequence[tuple[Series, list[Point]]]) -> list[Point]:
    """What the axis should show: of raw values behind a curve, the outermost hundredths may leave the box."""
    found: list[Point] = []
    for one, points in drawn:
        if one.kind == "faint" and len(points) > 100:
            ordered = sorted(points, key=lambda point: point[1])
            cut = len(ordered) // 100
            points = ordered[cut : len(ordered) - cut]
        found += points
    return found


def nice_ticks(low: float, high: float, count: int = _TICKS) -> list[float]:
    """Round numbers around a range: steps of 1, 2 or 5 times a power of ten."""
    spread = high - low
    if not math.isfinite(spread):
        return [low, high]
    if not spread > _SAME * max(abs(low), abs(high)):
        spread = abs(high)
    raw = (spread if spread > _NOTHING else 1.0) / count
    power = 10 ** math.floor(math.log10(raw))
    step = next((factor * power for factor in (1, 2, 5) if factor * power >= raw), 10 * power)
    first = math.floor(low / step + 1e-9)
    ticks = []
    for index in range(first, first + 3 * count):
        value = float(f"{index * step:.12g}")
        ticks.append(value)
        if value >= high - 1e-9 * spread and len(ticks) > 1:
            break
    return ticks


def _path(points: Sequence[Point], kind: str, frame: _Frame) -> str:
    placed = [f"{frame.x(x):.1f} {frame.y(y):.1f}" for x, y in points]
    if kind == "dots":
        return "".join(f"M{place}h.01" for place in placed)  # a round cap of no length is a dot
    return "M" + "L".join(placed)


def _in_words(one: Series, x_name: str) -> str:
    (first, begin), (last, end) = one.points[0], one.points[-1]
    lowest = min(one.points, key=lambda point: point[1])
    highest = max(one.points, key=lambda point: point[1])
    if first == last:
        return f"{one.name}: {decimal(end)} at {x_name} {decimal(last)}"
    return (
        f"{one.name}: {decimal(begin)} at {x_name} {decimal(first)}, {decimal(end)} at {x_name} "
        f"{decimal(last)}, lowest {decimal(lowest[1])}, highest {decimal(highest[1])}"
    )


def _latest(drawn: Sequence[tuple[Series, list[Point]]], x_name: str) -> str:
    """E.g. `At step 90: training, smoothed 0.1234; evaluation 0.5 (step 80)`; without steps, a count."""
    if x_name != "step":
        return f"{max(len(one.points) for one, _ in drawn):,} points"
    newest = max(points[-1][0] for _, points in drawn)
    parts: dict[str, str] = {}
    for one, points in drawn:
        at, value = points[-1]
        if one.kind != "faint":
            parts.setdefault(one.name, decimal(value) + ("" if at == newest else f" (step {decimal(at)})"))
    return f"At step {decimal(newest)}: {'; '.join(f'{name} {words}' for name, words in parts.items())}"


def _round(value: float) -> float:
    return float(f"{value:.6g}")
