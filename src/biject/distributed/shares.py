"""`Shares`: how much of each global batch every rank gets, by its measured speed; no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from biject.config.sync import SyncConfig
from biject.distributed.speeds import Array, Speeds

GAIN = 0.02
"""Shares move where that makes a step faster by this much: smaller steps are noise."""


class Shares:
    """Relative shares of W ranks.

    Args:
        count: ranks.
        config: whether shares are measured, equal or given.

    Attributes:
        weights: (W,) sum 1; None for equal shares that never move.
        meetings: steps that were reported.
    """

    def __init__(self, count: int, config: SyncConfig) -> None:
        self.speeds = Speeds(count, quick=True)
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

    def report(self, wall_ms: Sequence[float], work: Sequence[float]) -> bool:
        """Take what every rank did in a step, and how long it worked; whether shares move.

        The first step is passed over: it warms up. A rank that had no work keeps its speed.
        """
        self.meetings += 1
        if not self.measured or self.meetings == 1:
            return False
        self.speeds.report(wall_ms, work)
        if not self.speeds.known or self.weights is None:
            return False
        best = self.speeds.relative()
        now = float(np.max(self.weights * self.speeds.ms))
        if now <= (1 + GAIN) * float(np.max(best * self.speeds.ms)):
            return False
        self.weights = best
        return True

    def state(self) -> dict[str, Any]:
        """What a resumed run goes on with, as plain data."""
        weights = None if self.weights is None else self.weights.tolist()
        return {"weights": weights, "ms": self.speeds.ms.tolist(), "meetings": self.meetings}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state()`; what was measured of another number of ranks is forgotten."""
        if not self.measured or len(state["ms"]) != len(self.speeds.ms):
            return
        self.speeds.ms = np.asarray(state["ms"], dtype=np.float64)
        self.meetings = int(state["meetings"])
        if state["weights"] is not None:
            self.weights = np.asarray(state["weights"], dtype=np.float64)
