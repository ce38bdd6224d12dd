"""Sides in turns: ratios with their spread, real tokens a second, peak memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from biject.runs.peaks import peak

Side = Callable[[], int]
"""Does some work; gives how many real tokens it was."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One cell of the table."""

    name: str
    model: str
    dtype: str
    threads: int
    peer: str
    seconds: tuple[tuple[float, float], ...]
    """(ours, the peer's) for one real token, of each round of all sides."""
    padded_over_real: float | None = None
    peak_bytes: tuple[int | None, int | None] = (None, None)
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def ratios(self) -> list[float]:
        """How many times as fast ours was, of each pair."""
        return [theirs / ours for ours, theirs in self.seconds]

    @property
    def tokens_per_second(self) -> tuple[float, float]:
        """Medians: ours, the peer's."""
        ours, theirs = (statistics.median(side) for side in zip(*self.seconds, strict=True))
        return 1 / ours, 1 / theirs

    def to_json(self) -> dict[str, Any]:
        """Everything, with what follows from it."""
        ratios, (ours, theirs) = self.ratios, self.tokens_per_second
        return {
            "name": self.name,
            "model": self.model,
            "dtype": self.dtype,
            "threads": self.threads,
            "peer": self.peer,
            "ratio": {"min": min(ratios), "median": statistics.median(ratios), "max": max(ratios)},
            "pairs": len(ratios),
            "real_tokens_per_second": {"ours": ours, "peer": theirs},
            "padded_over_real": self.padded_over_real,
            "peak_bytes": {"ours": self.peak_bytes[0], "peer": self.peak_bytes[1]},
            **self.more,
        }


def in_turns(sides: Sequence[Side], repeats: int) -> tuple[tuple[float, ...], ...]:
    """Seconds for one real token of every side, round by round; every other round goes backwards.

    One run of each before is not counted.
    """
    for side in sides:
        side()
    found = []
    for turn in range(repeats):
        order = range(len(sides)) if turn % 2 == 0 else reversed(range(len(sides)))
        taken = {}
        for index in order:
            started = time.perf_counter()
            tokens = sides[index]()
            _finish()
            taken[index] = (time.perf_counter() - started) / tokens
        found.append(tuple(taken[index] for index in range(len(sides))))
    return tuple(found)


def against_last(seconds: Sequence[Sequence[float]]) -> list[tuple[tuple[float, float], ...]]:
    """For each side but the last: (its own, the last one's) seconds of every round."""
    *own, last = zip(*seconds, strict=True)
    return [tuple(zip(side, last, strict=True)) for side in own]


def peak_bytes(side: Side) -> int | None:
    """How far memory grew while this ran: the device's where there is one, else the process's (Linux)."""
    if torch.cuda.is_available():
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        side()
        return int(torch.cuda.max_memory_allocated() - before)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak is the present
        before = _status("VmRSS")
        side()
        return _status("VmHWM") - before
    except OSError:
        return None


class Limits:
    """The most that this machine was seen to do; other programs disturb any single look.

    Attributes:
        flops: by dtype, FLOPs a second of a product of matrices (of the data sheet where it is known).
        bytes_per_second: read from memory.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.flops: dict[str, float] = {}
        self.bytes_per_second = 0.0

    def look(self, dtype: torch.dtype) -> None:
        """Measure once more, and keep what was better."""
        name = str(dtype).removeprefix("torch.")
        self.flops[name] = max(self.flops.get(name, 0.0), peak(self.device, dtype)[0])
        self.bytes_per_second = max(self.bytes_per_second, bandwidth(self.device))


def bandwidth(device: torch.device) -> float:
    """Bytes a second that can be read from memory, over much more than any cache: the best of five passes.

    The largest of all numbers is looked for: a sum takes longer than reading does.
    """
    numbers = torch.ones(64 * 2**20, device=device)
    best = 0.0
    for _ in range(5):
        _finish()
        started = time.perf_counter()
        numbers.amax()
        _finish()
        best = max(best, numbers.nbytes / (time.perf_counter() - started))
    return best


def _finish() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
