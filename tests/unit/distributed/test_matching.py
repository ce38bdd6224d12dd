"""How far ranks go together: as far as one Adam with the batches of all, by simulation of noisy gradients."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from biject.distributed.matching import stretch

MEMORY, SLOW = 0.9, 0.999


def way(signal: float, noise: float, steps: int, rounds: int, seed: int, count: int = 4000) -> np.ndarray:
    """Where `count` weights are after each round of Adam steps on gradients of one mean, (rounds, count)."""
    draw = np.random.default_rng(seed)
    mean, square, at, found = np.zeros(count), np.full(count, signal**2 + noise**2), np.zeros(count), []
    for number in range(steps * rounds):
        gradient = signal + noise * draw.standard_normal(count)
        mean = MEMORY * mean + (1 - MEMORY) * gradient
        square = SLOW * square + (1 - SLOW) * gradient**2
        at = at + mean / np.sqrt(square)
        if number % steps == steps - 1:
            found.append(at)
    return np.stack(found)


@pytest.mark.parametrize("signal", [0.01, 0.1, 0.3, 1.0])
@pytest.mark.parametrize("steps", [1, 4, 30])
@pytest.mark.parametrize("ranks", [2, 8])
def test_the_ranks_go_as_far_as_one_process(ranks: int, steps: int, signal: float) -> None:
    """Noise of 1 in a rank's batch, 1/√W in one process's; the ways of late rounds are compared."""
    rounds, skip = 60 // steps + 40, 40
    own = np.stack([way(signal, 1.0, steps, rounds, seed) for seed in range(ranks)])
    one = way(signal, 1 / sqrt(ranks), steps, rounds, 99)
    parts = np.diff(own, axis=1)[:, skip - 1 :]
    means = parts.mean(0)
    ratio = float((parts**2).mean() / (means**2).mean())
    factor = stretch(ratio=ratio, weights=1 / ranks, ranks=ranks, steps=steps, memory=MEMORY)
    together = factor * means.mean()
    alone = np.diff(one, axis=0)[skip - 1 :].mean()
    assert 1 <= factor <= sqrt(ranks)
    assert together == pytest.approx(alone, rel=0.12, abs=0.03 * steps)


def test_its_limits() -> None:
    half = {"weights": 1 / 2, "ranks": 2, "steps": 4, "memory": MEMORY}
    assert stretch(ratio=2.0, **half) == stretch(ratio=2.1, **half) == pytest.approx(sqrt(2))
    assert stretch(ratio=1.0, **half) == 1
    found = [stretch(ratio=ratio, **half) for ratio in (1.001, 1.2, 1.5, 1.9, 1.99)]
    assert found == sorted(found)
    assert found[0] < 1.05
    assert found[-1] > 1.4


def test_a_rank_that_does_most_is_not_lengthened() -> None:
    """Eight of nine batches are one rank's: it does twice the steps of one process with batches of both."""
    weights = (64 + 1) / 81
    found = stretch(ratio=1 / weights, weights=weights, ranks=2, steps=8, memory=MEMORY)
    assert found == pytest.approx(sqrt(2) / weights / 2)
    assert found < 1
