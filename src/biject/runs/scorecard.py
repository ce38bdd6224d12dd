"""`scorecard`: recipes or back ends against each other, in several cycles, and a verdict by a stated rule."""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from biject.config.metric import smaller_is_better
from biject.config.recipe import FinetuneRecipe
from biject.config.recipe_file import dump_recipe, make_recipe, read_recipe
from biject.config.tasks import PREFERENCES
from biject.errors import InputError
from biject.events import progress
from biject.runs.folder import absolute

MARGIN = 0.05
"""What time or memory has to differ by to count."""
GAIN = 2.0
"""Standard errors that quality has to gain to count."""
RULE = (
    "A contestant is promoted over the first one where its quality is not worse (the mean of the paired "
    "differences is at least -1 standard error), neither time nor memory is more than 5 % worse (median of "
    "the paired ratios), and something is better: quality by more than 2 standard errors, or time or memory "
    "by 5 %."
)
PREFIXES = ("peft", "full")


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A recipe and who runs it.

    Attributes:
        name: As it was given, e.g. `peft:a.toml`.
        backend: `ours`, or `peft`: transformers' model with PEFT's adapter.
        recipe: What is trained.
    """

    name: str
    backend: str
    recipe: FinetuneRecipe


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One run.

    Attributes:
        contestant: Whose.
        cycle: From 0; its number is added to the recipe's seed.
        quality: Of the state that the run ends with, by the recipe's metric.
        seconds: Of training and evaluation.
        peak_bytes: Of the process, or of the GPU.
    """

    contestant: str
    cycle: int
    quality: float
    seconds: float
    peak_bytes: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A contestant beside the first one.

    Attributes:
        name: Whose.
        difference: Mean of quality's paired differences; above 0 is better, whatever the metric.
        standard_error: Of that mean.
        time_ratio: Median of the first one's seconds over its own; above 1 is faster.
        memory_ratio: The same of peaks.
        promoted: By the rule.
        reason: Why, or why not.
    """

    name: str
    difference: float
    standard_error: float
    time_ratio: float
    memory_ratio: float
    promoted: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class Scorecard:
    """All runs, and what follows from them."""

    metric: str
    contestants: tuple[str, ...]
    cycles: int
    trials: tuple[Trial, ...]
    comparisons: tuple[Comparison, ...]

    @property
    def promoted(self) -> tuple[str, ...]:
        """Those that the rule promotes."""
        return tuple(one.name for one in self.comparisons if one.promoted)

    def of(self, name: str) -> list[Trial]:
        """A contestant's runs, by cycle."""
        return sorted((one for one in self.trials if one.contestant == name), key=lambda one: one.cycle)

    def spread(self, name: str, what: str) -> tuple[float, float, float]:
        """Mean, standard deviation (0 for one run), and median of `quality`, `seconds` or `peak_bytes`."""
        values = [float(getattr(one, what)) for one in self.of(name)]
        finite = all(map(math.isfinite, values))
        deviation = statistics.stdev(values) if finite and len(values) > 1 else 0.0
        return statistics.fmean(values), deviation, statistics.median(values)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        summary = {
            name: {
                what: dict(zip(("mean", "deviation", "median"), self.spread(name, what), strict=True))
                for what in ("quality", "seconds", "peak_bytes")
            }
            for name in self.contestants
        }
        return {**asdict(self), "rule": RULE, "summary": summary, "promoted": list(self.promoted)}


def contestant(given: str) -> Contestant:
    """`A.toml`, `peft:A.toml` (the same on transformers with PEFT) or `full:A.toml` (every parameter).

    Raises:
        BijectError: There is no such recipe, or it cannot be used.
    """
    prefix, colon, rest = given.partition(":")
    path = Path(rest if colon and prefix in PREFIXES else given)
    values = read_recipe(path)
    if colon and prefix == "full":
        values = {key: value for key, value in values.items() if key not in ("adapter", "merge")}
        values["method"] = "full"
    recipe = absolute(make_recipe(values, where=str(path)))
    return Contestant(name=given, backend="peft" if colon and prefix == "peft" else "ours", recipe=recipe)


def scorecard(
    contestants: Sequence[Contestant], *, cycles: int, log: Callable[[str], None] = lambda line: None
) -> Scorecard:
    """Run all contestants in turns, each in a process of its own, and compare them with the first.

    Args:
        contestants: At least two.
        cycles: Runs of each, at least two; each cycle has a seed of its own, the same for all.
        log: Takes a line for each run.

    Raises:
        InputError: Too few, one twice, metrics that differ, or a run that failed.
    """
    names = [one.name for one in contestants]
    metric = _check(contestants, cycles)
    trials: list[Trial] = []
    with tempfile.TemporaryDirectory(prefix="biject-scorecard-") as folder:
        for cycle in range(cycles):
            order = contestants if cycle % 2 == 0 else list(reversed(contestants))  # no one is always first
            for one in order:
                progress("scorecard", len(trials), cycles * len(contestants), unit="runs")
                trials.append(_run(one, cycle, Path(folder)))
                log(_line(trials[-1], metric))
    card = Scorecard(
        metric=metric, contestants=tuple(names), cycles=cycles, trials=tuple(trials), comparisons=()
    )
    sign = -1 if smaller_is_better(contestants[0].recipe.train.metric) else 1
    found = tuple(compare(card, names[0], name, sign=sign) for name in names[1:])
    return replace(card, comparisons=found)


def compare(card: Scorecard, first: str, name: str, *, sign: int) -> Comparison:
    """A contestant beside the first one, cycle by cycle.

    Args:
        card: All runs.
        first: The one to beat.
        name: The other.
        sign: -1 where smaller quality is better.
    """
    pairs = list(zip(card.of(first), card.of(name), strict=True))
    differences = [sign * (b.quality - a.quality) for a, b in pairs]
    mean = statistics.fmean(differences)
    known = math.isfinite(mean) and len(differences) > 1
    error = statistics.stdev(differences) / math.sqrt(len(differences)) if known else 0.0
    time_ratio = statistics.median(a.seconds / b.seconds for a, b in pairs)
    memory_ratio = statistics.median(a.peak_bytes / b.peak_bytes for a, b in pairs)
    promoted, reason = _verdict(mean, error, time_ratio, memory_ratio)
    return Comparison(
        name=name,
        difference=mean,
        standard_error=error,
        time_ratio=time_ratio,
        memory_ratio=memory_ratio,
        promoted=promoted,
        reason=reason,
    )


def _verdict(mean: float, error: float, time_ratio: float, memory_ratio: float) -> tuple[bool, str]:
    """By `RULE`."""
    if not math.isfinite(mean):
        return False, "quality is not a number in some cycle"
    if not mean >= -error:
        return False, f"quality is worse: {mean:+.4g}, standard error {error:.2g}"
    ratios = {"time": time_ratio, "memory": memory_ratio}
    worse = [
        f"{name} is {1 / ratio:.2f} times the first's"
        for name, ratio in ratios.items()
        if ratio < 1 / (1 + MARGIN)
    ]
    if worse:
        return False, "; ".join(worse)
    better = [
        f"{name} is {1 / ratio:.2f} times the first's"
        for name, ratio in ratios.items()
        if ratio >= 1 + MARGIN
    ]
    if mean > GAIN * error:
        better.insert(0, f"quality gains {mean:+.4g}, standard error {error:.2g}")
    if not better:
        return False, "nothing is better: quality, time and memory are about the same"
    return True, "quality is not worse, and " + "; ".join(better)


def _check(contestants: Sequence[Contestant], cycles: int) -> str:
    if len(contestants) < 2:
        raise InputError(f"A scorecard compares at least two recipes, found {len(contestants)}.")
    names = [one.name for one in contestants]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"A scorecard compares different contestants; {twice[0]} is named twice.")
    if cycles < 2:
        raise InputError(f"--cycles should be at least 2, since one run has no spread; found {cycles}.")
    pairs = {one.recipe.task for one in contestants if one.backend == "peft"} & set(PREFERENCES)
    if pairs:
        raise InputError(
            f"The back end peft trains by a head's own loss, and the task {min(pairs)} has another: compare "
            "recipes with Biject's own."
        )
    metrics = list(dict.fromkeys(one.recipe.train.metric for one in contestants))
    if len({(metric.removeprefix("-"), smaller_is_better(metric)) for metric in metrics}) > 1:
        raise InputError(
            f"Contestants need one `train.metric` to be compared by; found {', '.join(metrics)}."
        )
    return metrics[0].removeprefix("-")


def _run(one: Contestant, cycle: int, folder: Path) -> Trial:
    """A run in a process of its own, so that its memory is its own."""
    recipe = replace(one.recipe, train=replace(one.recipe.train, seed=one.recipe.train.seed + cycle))
    path, result = folder / "recipe.toml", folder / "result.json"
    path.write_text(dump_recipe(recipe), encoding="utf-8")
    result.unlink(missing_ok=True)
    command = [sys.executable, "-m", "biject.runs.trial", one.backend, str(path), str(result)]
    environment = {"OMP_WAIT_POLICY": "passive", **os.environ}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode or not result.is_file():
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise InputError(f"{one.name}, cycle {cycle + 1}, failed: {last[0]}")
    found = json.loads(result.read_text(encoding="utf-8"))
    return Trial(
        contestant=one.name,
        cycle=cycle,
        quality=found["quality"],
        seconds=found["seconds"],
        peak_bytes=found["peak_bytes"],
    )


def _line(one: Trial, metric: str) -> str:
    return (
        f"RUN cycle {one.cycle + 1} {one.contestant}: {metric} {one.quality:.4f}, {one.seconds:.1f} s, peak "
        f"{one.peak_bytes / 1e6:.0f} MB"
    )
