"""`Shares`: how much of each global batch every rank gets, by its measured speed; no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from biject.config.sync import SyncConfig
from biject.distributed.speeds import Array, Speeds

GAIN = 0.02
"""Shares move where that makes a step faster by this much: smaller steps are noise."""
BETTER = 0.8
"""The other unit is taken when its predictions are off by less than this share of what the used one's are."""
NEWEST = 0.2
"""What a step's error weighs against those before it."""


class Shares:
    """Relative shares of W ranks.

    Work is counted in tokens or in samples, whichever predicts the ranks' times better: padded batches take
    as long as they have rows, packed ones as long as they have tokens.

    Args:
        count: ranks.
        config: whether shares are measured, equal or given.

    Attributes:
        weights: (W,) sum 1; None for equal shares that never move.
        meetings: steps that were reported.
        by_samples: work is counted in samples.
    """

    def __init__(self, count: int, config: SyncConfig) -> None:
        self._speeds = (Speeds(count, quick=True), Speeds(count, quick=True))
        self._errors: list[float | None] = [None, None]
        self.by_samples = False
        self.measured = config.shares == "measured" and count > 1
        self.meetings = 0
        given = config.speed_hint if config.shares == "measured" else config.shares
        self.weights: Array | None = None
        if count > 1 and isinstance(given, tuple):
            if len(given) != count:
                name = "speed_hint" if config.shares == "measured" else "shares"
                raise ValueError(f"`sync.{name}` has {len(given)} numbers for {count} ranks")
            self.weights = np.asarray(given, dtype=np.float64) / sum(given)
        elif self.measured:
            self.weights = np.full(count, 1 / count)

    @property
    def speeds(self) -> Speeds:
        """In the unit that is used."""
        return self._speeds[self.by_samples]

    def report(
        self, wall_ms: Sequence[float], tokens: Sequence[float], samples: Sequence[float] | None = None
    ) -> bool:
        """Take what every rank did in a step, and how long it worked; whether shares move.

        The first step is passed over: it warms up. A rank that had no work keeps its speed.

        Args:
            wall_ms: (W,) time of work.
            tokens: (W,) or whatever the work is counted in.
            samples: (W,) where they are known, too.
        """
        self.meetings += 1
        if not self.measured or self.meetings == 1:
            return False
        for unit, work in enumerate((tokens, samples)):
            if work is not None:
                self._compare(unit, wall_ms, work)
                self._speeds[unit].report(wall_ms, work)
        changed = self._choose()
        if not self.speeds.known or self.weights is None:
            return False
        best = self.speeds.relative()
        now = float(np.max(self.weights * self.speeds.ms))
        if not changed and now <= (1 + GAIN) * float(np.max(best * self.speeds.ms)):
            return False
        self.weights = best
        return True

    def _compare(self, unit: int, wall_ms: Sequence[float], work: Sequence[float]) -> None:
        """How far off the times are that the known speeds predict, relative to them."""
        speeds, wall = self._speeds[unit], np.asarray(wall_ms, dtype=np.float64)
        if not speeds.known or not wall.sum() > 0:
            return
        off = float(abs(wall - speeds.ms * np.asarray(work, dtype=np.float64)).sum() / wall.sum())
        before = self._errors[unit]
        self._errors[unit] = off if before is None else (1 - NEWEST) * before + NEWEST * off

    def _choose(self) -> bool:
        """Change the unit where the other one predicts better; whether it did."""
        own, other = self._errors[self.by_samples], self._errors[not self.by_samples]
        if own is None or other is None or not other < BETTER * own:
            return False
        self.by_samples = not self.by_samples
        return self.speeds.known

    def state(self) -> dict[str, Any]:
        """What a resumed run goes on with, as plain data."""
        weights = None if self.weights is None else self.weights.tolist()
        return {
            "weights": weights,
            "ms": self._speeds[0].ms.tolist(),
            "ms_sample": self._speeds[1].ms.tolist(),
            "errors": list(self._errors),
            "by_samples": self.by_samples,
            "meetings": self.meetings,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state()`; what was measured of another number of ranks is forgotten."""
        if not self.measured or len(state["ms"]) != len(self.speeds.ms):
            return
        self._speeds[0].ms = np.asarray(state["ms"], dtype=np.float64)
        if len(state.get("ms_sample", ())) == len(state["ms"]):  # an older Biject wrote none
            self._speeds[1].ms = np.asarray(state["ms_sample"], dtype=np.float64)
            self._errors = [None if e is None else float(e) for e in state["errors"]]
            self.by_samples = bool(state["by_samples"])
        self.meetings = int(state["meetings"])
        if state["weights"] is not None:
            self.weights = np.asarray(state["weights"], dtype=np.float64)
