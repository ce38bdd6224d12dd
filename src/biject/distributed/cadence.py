"""When ranks meet and how much each does until then: the state machine of `cadence` and `async`; no torch.

The slowest rank does A batches (the anchor) between two meetings, the others as many as fit into the same
time. A grows until meetings cost no more than a chosen share of the time, and shrinks when the ranks' weights
run apart. Source: the project's el-che.md, section 2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from biject.config.sync import SyncConfig
from biject.distributed.speeds import Array, Speeds

MOVES_AT = 0.1
"""A count stays while its target is no farther from it than this share."""
OVER_TIME = 0.25
"""So much of a rank's last batch may be after the planned time."""
LEAST_HANDED_OUT = 4
"""Batches that a rank has at least until the next meeting where time decides how many it does."""
MOST = 200
"""An anchor never grows above it, where no other limit is given."""
RISES = 3
"""So many rises of the divergence in a row make the guard act."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What came of a meeting.

    Attributes:
        anchor: Batches of the slowest rank until the next meeting.
        counts: Of every rank.
        overhead: Time of the meeting relative to the longest time of work.
        guarded: The guard shrank the anchor.
    """

    anchor: int
    counts: tuple[int, ...]
    overhead: float
    guarded: bool


class Cadence:
    """Anchor, counts and speeds of W ranks.

    Args:
        count: ranks.
        config: bounds and targets.

    Attributes:
        anchor: batches of the slowest rank between two meetings.
        counts: of every rank.
        speeds: milliseconds a batch of every rank.
        most: what the anchor may grow to.
        ceiling: what the guard lets it grow to.
    """

    def __init__(self, count: int, config: SyncConfig) -> None:
        self.config = config
        self.speeds = Speeds(count)
        self.most = config.max_anchor or max(config.anchor, MOST)
        self.ceiling = self.most
        self.anchor = self._clamp(config.anchor)
        self.counts = self._hinted(count)
        self._calibrated = False
        self._divergence = 0.0
        self._rises = 0

    def _hinted(self, count: int) -> list[int]:
        """Counts before anything was measured: equal, or by relative speeds that the user gave."""
        hint = self.config.speed_hint
        if hint is None:
            return [self.anchor] * count
        if len(hint) != count:
            raise ValueError(f"`speed_hint` has {len(hint)} speeds for {count} ranks")
        return [max(1, round(self.anchor * speed / min(hint))) for speed in hint]

    def _clamp(self, anchor: float) -> int:
        return int(max(1, min(anchor, self.most, self.ceiling)))

    def report(
        self,
        wall_ms: Sequence[float] | Array,
        batches: Sequence[float] | Array,
        sync_ms: float,
        divergence: float | None = None,
    ) -> Decision:
        """Take what the ranks did until this meeting, and decide how much they do until the next.

        Args:
            wall_ms: (W,) time of work, waiting not counted.
            batches: (W,) done.
            sync_ms: how long the exchange itself took.
            divergence: the largest distance of a rank's weights from the mean, relative to its norm.
        """
        if not (math.isfinite(sync_ms) and sync_ms >= 0):
            raise ValueError(
                f"the time of a meeting should be a number that is not negative, found {sync_ms}"
            )
        self.speeds.report(wall_ms, batches)
        longest = float(np.max(wall_ms))
        overhead = sync_ms / longest if longest > 0 else 0.0
        guarded = divergence is not None and self._guard(divergence)
        if not guarded and longest > 0:
            self._tune(overhead)
        self._move()
        return Decision(anchor=self.anchor, counts=tuple(self.counts), overhead=overhead, guarded=guarded)

    def _tune(self, overhead: float) -> None:
        """Grow in proportion where meetings cost too much, shrink by one where they cost next to nothing."""
        target = self.config.overhead_target
        if overhead > target:
            self.anchor = self._clamp(math.ceil(self.anchor * overhead / target))
        elif overhead < target / 2:
            self.anchor = max(self.config.min_anchor, self.anchor - 1)
        self.anchor = self._clamp(self.anchor)

    def _guard(self, divergence: float) -> bool:
        """Halve the anchor at the third rise in a row above the threshold; calm meetings lift the ceiling."""
        above = not divergence <= self.config.divergence_threshold  # NaN is above
        rising = above and not divergence <= self._divergence
        self._rises = self._rises + 1 if rising else 0
        self._divergence = divergence
        if self._rises == RISES:
            self.ceiling = max(1, self.anchor // 2)
            self.anchor = self.ceiling
            self._rises = 0
            return True
        if not above:
            self.ceiling = min(self.most, self.ceiling + 1)
        return False

    def _move(self) -> None:
        """Targets are max(1, round(A·S/ms)), S the slowest's ms; counts move when they are 10 % off."""
        ms = self.speeds.ms
        known = ms > 0
        if not known.any():
            return
        slowest = float(ms.max())
        ratio = np.divide(self.anchor * slowest, ms, out=np.zeros_like(ms), where=known)
        counts = np.asarray(self.counts)
        targets = np.where(known, np.maximum(1, np.rint(ratio)), counts).astype(np.int64)
        moves = abs(targets - counts) > (MOVES_AT * counts if self._calibrated else 0)
        most = self.config.max_batch_diff
        way = targets - counts if most is None else np.clip(targets - counts, -most, most)
        self.counts = np.where(moves, counts + way, counts).tolist()
        self._calibrated = self._calibrated or bool(known.all())

    def enough(self, *, rank: int, done: int, wall_ms: float) -> bool:
        """Whether a rank has worked as long as planned, to the batch; at first, as much.

        So nobody waits for a rank whose speed changed since the last meeting by more than one batch. A batch
        begins only where a quarter of it, at most, is over time: a rank that ends late keeps all others
        waiting, one that ends early waits alone.
        """
        if not self._calibrated:
            return done >= self.counts[rank]
        ms = self.speeds.ms
        return done >= 1 and wall_ms + (1 - OVER_TIME) * float(ms[rank]) > self.anchor * float(ms.max())

    def allowance(self) -> list[int]:
        """Batches to hand out until the next meeting: more than the counts where time decides, as a rank may
        have become faster; what it does not get to goes back.
        """
        if not self._calibrated:
            return list(self.counts)
        counts = np.asarray(self.counts)
        more: list[int] = np.maximum(LEAST_HANDED_OUT, counts + counts // 4 + 1).tolist()
        return more

    def state(self) -> dict[str, Any]:
        """What a resumed run goes on with, as plain data."""
        return {
            "anchor": self.anchor,
            "counts": list(self.counts),
            "ms": self.speeds.ms.tolist(),
            "ceiling": self.ceiling,
            "calibrated": self._calibrated,
            "divergence": self._divergence,
            "rises": self._rises,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state()`; of another number of ranks only the anchor and the guard stay."""
        self.anchor, self.ceiling = int(state["anchor"]), int(state["ceiling"])
        self._divergence, self._rises = float(state["divergence"]), int(state["rises"])
        if len(state["counts"]) != len(self.counts):
            self.counts = (
                self._hinted(len(self.counts))
                if self.config.speed_hint
                else [self.anchor for _ in self.counts]
            )
            return
        self.counts = [int(value) for value in state["counts"]]
        self.speeds.ms = np.asarray(state["ms"], dtype=np.float64)
        self._calibrated = bool(state["calibrated"])
