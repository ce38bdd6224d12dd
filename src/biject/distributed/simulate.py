"""A cohort in simulated time: what a cadence does on ranks that are not there."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from biject.config.sync import SyncConfig
from biject.distributed.cadence import Cadence
from biject.distributed.handout import Pool


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """What came of it.

    Attributes:
        waste: Share of all ranks' time that was waited between meetings, after the first quarter of rounds.
        anchors: After each meeting.
        overhead: Time of meetings relative to the work, in the last round.
        decision_ms: The longest time that one decision and hand-out took, on this machine.
        median_ms: The median of them.
    """

    waste: float
    anchors: tuple[int, ...]
    overhead: float
    decision_ms: float
    median_ms: float


def simulate(
    ms: Sequence[float],
    *,
    sync_ms: float,
    rounds: int = 60,
    jitter: float = 0.1,
    seed: int = 0,
    config: SyncConfig | None = None,
) -> Simulated:
    """Run a cadence over ranks of given speeds.

    Args:
        ms: Of each rank, for a batch.
        sync_ms: What a meeting costs.
        rounds: Meetings.
        jitter: Each batch takes up to this share more or less, evenly drawn.
        seed: Of the jitter.
        config: Of the cadence; the default one.
    """
    draw = np.random.default_rng(seed)
    true = np.asarray(ms, dtype=np.float64)
    cadence = Cadence(len(true), config or SyncConfig(mode="cadence"))
    pool = Pool(1 << 40)
    took, anchors, busy, whole, overhead = [], [], 0.0, 0.0, 0.0
    given = pool.take(cadence.allowance())
    for number in range(rounds):
        walls, done, undone = np.zeros(len(true)), np.zeros(len(true)), list[int]()
        for rank in range(len(true)):
            batches = given.of(rank)
            ends = np.cumsum(true[rank] * (1 + jitter * draw.uniform(-1, 1, len(batches))))
            done[rank] = next(
                (i for i, end in enumerate(ends, 1) if cadence.enough(rank=rank, done=i, wall_ms=end)),
                len(batches),
            )
            walls[rank] = ends[int(done[rank]) - 1]
            undone += batches[int(done[rank]) :]
        pool.give_back(undone)
        started = time.perf_counter()
        found = cadence.report(walls, done, sync_ms)
        given = pool.take(cadence.allowance())
        given.of(number % len(true))
        took.append(1000 * (time.perf_counter() - started))
        anchors.append(found.anchor)
        overhead = found.overhead
        if number >= rounds // 4:
            busy, whole = busy + float(walls.sum()), whole + float(walls.max()) * len(true)
    return Simulated(
        waste=1 - busy / whole,
        anchors=tuple(anchors),
        overhead=overhead,
        decision_ms=max(took),
        median_ms=float(np.median(took)),
    )
