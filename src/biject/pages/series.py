"""Curves for a page: smoothed, and thinned so that a run of any length is a small page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

Point = tuple[float, float]
MOST_POINTS = 500


@dataclass(frozen=True, kw_only=True)
class Series:
    """One curve.

    Attributes:
        name: In the legend.
        points: (x, y), x growing.
        kind: `line`, `faint` (raw values behind a smoothed line), or `dots`.
        color: Place in the palette.
    """

    name: str
    points: tuple[Point, ...]
    kind: str = "line"
    color: int = 0


def smoothed(points: Sequence[Point]) -> list[Point]:
    """An exponential mean over a fiftieth of the run (ten steps of a short one), its start corrected.

    Source: the bias correction of Kingma and Ba 2015, arXiv:1412.6980, section 3.
    """
    span = max(1.0, min(len(points) / 10, 10.0), len(points) / 50)
    keep = 1 - 1 / span
    mean, weight, found = 0.0, 0.0, []
    for x, y in points:
        mean = keep * mean + (1 - keep) * y
        weight = keep * weight + (1 - keep)
        found.append((x, mean / weight))
    return found


def thinned(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """At most about `most` points: of each stretch the smallest and the largest, so that peaks stay."""
    if len(points) <= most:
        return list(points)
    stretches = max(1, (most - 2) // 2)
    cuts = [round(i * len(points) / stretches) for i in range(stretches + 1)]
    found = [points[0]]
    for start, end in pairwise(cuts):
        part = points[start:end]
        low, high = min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])
        found += sorted({low, high})
    found.append(points[-1])
    return sorted(set(found))


def rates(seconds: Sequence[Point], tokens: Sequence[float]) -> list[Point]:
    """Tokens a second at each step; the clock starts anew where a run was resumed.

    Args:
        seconds: (step, seconds since the process began).
        tokens: Of the same steps.
    """
    found = []
    for (before, now), count in zip(pairwise(seconds), tokens[1:], strict=False):
        passed = now[1] - before[1]
        if passed > 0:
            found.append((now[0], count / passed))
    return found
