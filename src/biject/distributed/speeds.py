"""How fast each rank is, measured at every meeting; no torch.

Every rank calls these functions with the same numbers and so comes to the same decision, without a
coordinator.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
SLOWEST_MOVE, FASTEST_MOVE = 0.1, 0.8
"""Bounds of what a new measurement weighs against the old ones."""


class Speeds:
    """Milliseconds per unit of work of each rank, followed as they change.

    Args:
        count: ranks.
        quick: follow changes within three meetings, of ranks that become faster, too.

    Attributes:
        ms: (W,) milliseconds per unit, 0 where a rank has done nothing yet.
    """

    def __init__(self, count: int, *, quick: bool = False) -> None:
        self.quick = quick
        self.ms: Array = np.zeros(count)

    def report(self, wall_ms: Sequence[float] | Array, work: Sequence[float] | Array) -> None:
        """Take what each rank did since the last meeting, and how long it took; waiting not counted.

        A measurement x that is far from the known speed weighs more: with e = |x − ms| / ms,
        ms ← α·x + (1−α)·ms, α = e between 0.1 and 0.8. Ranks without work keep their speed. By that formula
        a rank that doubles its speed is a quarter off after three meetings; `quick` takes 2·|x − ms| relative
        to the smaller of both, up to 0.9.
        """
        wall, done = np.asarray(wall_ms, dtype=np.float64), np.asarray(work, dtype=np.float64)
        if wall.shape != self.ms.shape or done.shape != self.ms.shape:
            raise ValueError(f"{len(self.ms)} ranks, found {wall.shape} times and {done.shape} counts")
        if not (np.isfinite(wall).all() and np.isfinite(done).all() and (wall >= 0).all()):
            raise ValueError("times and work should be numbers that are not negative")
        worked = (done > 0) & (wall > 0)
        found = np.divide(wall, done, out=np.zeros_like(wall), where=worked)
        known = self.ms > 0
        base = np.minimum(found, self.ms) / 2 if self.quick else self.ms
        distance = np.divide(abs(found - self.ms), base, out=np.zeros_like(wall), where=known & worked)
        share = np.clip(distance, SLOWEST_MOVE, 0.9 if self.quick else FASTEST_MOVE)
        moved = np.where(known, share * found + (1 - share) * self.ms, found)
        self.ms = np.where(worked, moved, self.ms)

    @property
    def known(self) -> bool:
        """Whether every rank has been measured."""
        return bool((self.ms > 0).all())

    def relative(self) -> Array:
        """Each rank's share of the work, (W,), sum 1: equal as long as one is unknown."""
        if not self.known:
            return np.full(len(self.ms), 1 / len(self.ms))
        speed = 1 / self.ms
        found: Array = speed / speed.sum()
        return found


def apportion(total: int, weights: Sequence[float] | Array) -> list[int]:
    """Whole numbers that add up to `total`, in proportion to `weights` (largest remainder).

    Every rank with a weight above 0 gets one at least, as long as there are enough: what does nothing cannot
    be measured.
    """
    share = np.asarray(weights, dtype=np.float64)
    if total < 0 or not share.size or (share < 0).any() or not np.isfinite(share).all() or share.sum() <= 0:
        raise ValueError(f"cannot share {total} by {list(map(float, share[:8]))}")
    exact = total * (share / share.sum())
    found = np.floor(exact).astype(np.int64)
    left = total - int(found.sum())
    order = np.argsort(found - exact, kind="stable")  # largest remainder first, then by rank
    found[order[:left]] += 1
    lacking = np.flatnonzero((found == 0) & (share > 0))
    if len(lacking) and total >= int((share > 0).sum()):
        found[lacking] = 1
        for _ in lacking:
            found[int(np.argmax(found))] -= 1
    counts: list[int] = found.tolist()
    return counts


def cut(costs: Sequence[float], weights: Sequence[float] | Array) -> list[int]:
    """Consecutive parts of a list whose costs are in proportion to `weights`: the number in each part.

    Each end is where the sum so far is nearest to what the parts so far should have, unless that makes the
    last rank to end (cost by weight) later than necessary: an item too many costs a slow rank much more time
    than a fast one, and all wait for it. Every rank with a weight gets an item as long as there are enough.
    """
    share, count = np.asarray(weights, dtype=np.float64), len(costs)
    if count < int((share > 0).sum()) or not sum(costs) > 0:
        return apportion(count, share)
    sums = np.cumsum(np.asarray(costs, dtype=np.float64))
    usual = _nearest(sums, share)
    latest = _time(sums, share, usual)
    earliest = usual
    low, high = float(sums[-1] / share.sum()), latest
    for _ in range(TRIES):
        until = (low + high) / 2
        found = _filled(sums, share, until)
        if _time(sums, share, found) <= until * (1 + 1e-9):
            earliest, high = found, until
        else:
            low = until
    return earliest if _time(sums, share, earliest) < latest * (1 - WORTH) else usual


TRIES, WORTH = 12, 0.01
"""Halvings of the time in which all could end, and what another cut has to gain."""


def _time(sums: Array, share: Array, parts: Sequence[int]) -> float:
    """When the last rank ends."""
    done = np.concatenate([[0.0], sums])[np.cumsum([0, *parts])]
    works = share > 0
    return float(np.max(np.diff(done)[works] / share[works]))


def _nearest(sums: Array, share: Array) -> list[int]:
    targets = sums[-1] * np.cumsum(share / share.sum())
    ends = np.searchsorted(sums, targets) + 1  # with the item in which the target lies
    found, start, active, count = [], 0, int((share > 0).sum()), len(sums)
    for rank, (target, after) in enumerate(zip(targets.tolist(), ends.tolist(), strict=True)):
        if not share[rank] > 0:
            found.append(0)
            continue
        active -= 1
        end = min(after, count)
        if end > 1 and target - sums[end - 2] < sums[end - 1] - target:
            end -= 1
        end = min(max(end, start + 1), count - active) if active else count
        found.append(end - start)
        start = end
    return found


def _filled(sums: Array, share: Array, until: float) -> list[int]:
    """As many items for each rank as it does until then; the last one takes what is left."""
    known = sums.tolist()
    found, start, active, count = [], 0, int((share > 0).sum()), len(known)
    for weight in share.tolist():
        if not weight > 0:
            found.append(0)
            continue
        active -= 1
        room = (known[start - 1] if start else 0.0) + until * weight * (1 + 1e-9)
        end = min(max(bisect_right(known, room), start + 1), count - active) if active else count
        found.append(end - start)
        start = end
    return found
