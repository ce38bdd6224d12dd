"""Each rank's part of a step: what it did, how long it worked, how long it waited for the others."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from biject.train import ranks


@dataclass(frozen=True, kw_only=True)
class RankStep:
    """One rank's part of an optimizer step, or of what was done between two meetings.

    Attributes:
        tokens: Real ones (rows, where batches have no tokens).
        work_ms: Time of preparing, computing and updating.
        wait_ms: Until the slowest rank had done its part.
    """

    tokens: float
    work_ms: float
    wait_ms: float


class Meter:
    """A stopwatch for this rank's work; on a GPU it reads when the device is done.

    Attributes:
        prepared: seconds that went into the coming step's batches.
        work: seconds of the step so far, waiting not counted.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.prepared = self.work = 0.0
        self._started = 0.0

    def now(self) -> float:
        """Seconds, when everything that was sent to the device is done."""
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()
        return time.perf_counter()

    def begin(self) -> None:
        """A step begins; preparing its batches counts."""
        self.work += self.prepared
        self.prepared = 0.0
        self._started = time.perf_counter()

    def waited(self, seconds: float) -> None:
        """So much of the time since `begin` was spent waiting."""
        self._started += seconds

    def pause(self) -> None:
        """Work ends for now, as others are waited for."""
        self.work += self.now() - self._started

    def take(self) -> float:
        """Milliseconds of work since the last call."""
        found, self.work = 1000 * self.work, 0.0
        return found


def rows(tokens: float, work_ms: float) -> list[float]:
    """A rank's numbers in a place of its own, to be summed over ranks: (2·W,)."""
    found = [0.0] * (2 * ranks.count())
    found[2 * ranks.rank() : 2 * ranks.rank() + 2] = tokens, work_ms
    return found


def by_rank(numbers: Sequence[float]) -> tuple[RankStep, ...]:
    """What `rows` of all ranks add up to."""
    longest = max(numbers[1::2])
    return tuple(
        RankStep(tokens=tokens, work_ms=round(work, 3), wait_ms=round(longest - work, 3))
        for tokens, work in zip(numbers[::2], numbers[1::2], strict=True)
    )
