"""How far ranks that step by themselves go together: as far as one process with all their batches; no torch.

The steps of Adam and its like do not grow with the gradient: it is divided by its own size, most of which is
noise. Of a rank's batch, a W-th of one process's, the noise is √W times as large, so that a step goes 1/√W as
far in the direction that all agree on; and the mean of W ranks' steps goes no farther than one of them. Where
gradients have little noise less is missing: how far ranks end from each other tells how much.

Sources: Malladi et al., On the SDEs and Scaling Rules for Adaptive Gradient Algorithms (arXiv 2205.10287),
the square root; McCandlish et al., An Empirical Model of Large-Batch Training (arXiv 1812.06162), noise from
batches of two sizes; Khaled et al., Understanding Outer Optimizers in Local SGD (arXiv 2509.10439), outer
rates above 1.
"""

from __future__ import annotations

from math import sqrt


def stretch(*, ratio: float, weights: float, ranks: int, steps: float, memory: float) -> float:
    """By how much the mean of the ranks' ways is lengthened, so that it is as long as one process's.

    With ρ the signal of one batch relative to its noise, both squared, one process's steps go √(Wρ/(1+Wρ)), a
    rank's √(ρ/(1+ρ)); E = 1/Σw² ranks of equal work would average as much noise, and the ranks' n steps count
    W/E times in their weighted mean what they count in one process.

    Args:
        ratio: mean of the ranks' squared ways over the squared mean way: 1 where all went the same way, E
            where nothing but noise moved them.
        weights: sum of the squared shares of the work, Σw².
        ranks: W.
        steps: of a rank on the way.
        memory: how much of the mean gradient is kept at each step (Adam's beta1): noise of one step lasts.
    """
    equal = 1 / weights
    if ratio >= equal:  # noise alone, or one rank alone, which tells nothing
        return sqrt(ranks) * equal / ranks
    if ratio <= 1:
        return equal / ranks
    along = (equal - ratio) / (equal * (ratio - 1))
    rho = along / _gain(steps, memory)
    return sqrt(ranks * (1 + rho) / (1 + ranks * rho)) * equal / ranks


def _gain(steps: float, memory: float) -> float:
    """What a way of n steps has of signal over noise, squared, relative to one batch's."""
    n, beta = max(1.0, steps), memory
    together = beta * (n * (1 - beta) - (1 - beta**n)) / (1 - beta) ** 2
    gain: float = n * n / ((n + 2 * together) * (1 - beta) / (1 + beta))
    return gain
