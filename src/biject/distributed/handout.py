"""Work handed out from one permutation: every rank computes the same hand-out, and asks nobody. No torch.

`split` cuts one global batch into the ranks' shares. A `Pool` hands out an epoch's batches in rounds, and
takes back what a rank did not get to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from biject.distributed.speeds import Array, apportion, cut


def split(
    samples: Sequence[int],
    weights: Sequence[float] | Array,
    *,
    batch_size: int,
    lengths: Sequence[int] | None = None,
    max_tokens: int | None = None,
    by_samples: bool = False,
) -> list[list[list[int]]]:
    """One global batch as every rank's batches: consecutive shares in proportion to `weights`.

    Args:
        samples: of the global batch, in their order.
        weights: relative speeds of the ranks.
        batch_size: the most samples a rank computes at once; its batches are of equal size, or one apart.
        lengths: tokens of each sample of the data set; shares are by tokens where they are known.
        max_tokens: instead of `batch_size`, the most tokens of a batch, padding counted.
        by_samples: shares are by samples all the same.
    """
    costs = [1.0] * len(samples)
    if lengths is not None and not by_samples:
        costs = [float(lengths[i]) for i in samples]
    found, at = [], 0
    for count in cut(costs, weights):
        mine = list(samples[at : at + count])
        at += count
        if max_tokens is not None and lengths is not None:
            found.append(_by_budget(mine, lengths, max_tokens))
        else:
            sizes = _even(len(mine), batch_size)
            found.append([mine[end - size : end] for size, end in zip(sizes, accumulate(sizes), strict=True)])
    return found


def _even(count: int, most: int) -> list[int]:
    """`count` in as few parts as possible, none above `most`, sizes at most one apart."""
    parts = -(-count // most)
    return apportion(count, [1.0] * parts) if parts else []


def _by_budget(samples: Sequence[int], lengths: Sequence[int], budget: int) -> list[list[int]]:
    """In their order, as many as fit, padding counted."""
    batches: list[list[int]] = []
    longest = 0
    for sample in samples:
        longest = max(longest, lengths[sample])
        if not batches or (len(batches[-1]) + 1) * longest > budget:
            batches.append([])
            longest = lengths[sample]
        batches[-1].append(sample)
    return batches


class Round:
    """Each rank's batches until the next meeting; a rank's are listed when they are asked for."""

    def __init__(self, counts: Sequence[int], spans: Sequence[range]) -> None:
        self.counts = counts
        self._ends = list(accumulate(counts))
        self._spans = spans

    def of(self, rank: int) -> list[int]:
        """A rank's batches."""
        end = self._ends[rank]
        at, found = end - self.counts[rank], list[int]()
        for span in self._spans:
            if at < len(span) and end > 0:
                found += span[max(0, at) : end]
            at, end = at - len(span), end - len(span)
            if end <= 0:
                break
        return found


class Pool:
    """An epoch's batches that nobody has done yet, by their numbers.

    Args:
        count: batches of the epoch.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._spans = [range(count)]

    def __len__(self) -> int:
        """Batches left."""
        return sum(map(len, self._spans))

    def take(self, counts: Sequence[int]) -> Round:
        """A round: consecutive batches for every rank, `counts` of them.

        Where fewer are left, all of them in proportion to `counts`, so that the ranks end together.
        """
        left, total = len(self), sum(counts)
        if total > left:
            counts, total = apportion(left, counts), left
        at, needed = 0, total
        while needed and len(self._spans[at]) <= needed:
            needed -= len(self._spans[at])
            at += 1
        given = self._spans[:at]
        self._spans = self._spans[at:]
        if needed:
            given.append(self._spans[0][:needed])
            self._spans[0] = self._spans[0][needed:]
        return Round(counts, given)

    def give_back(self, batches: Sequence[int]) -> None:
        """Batches that were handed out and not done, in their order; they come first in the next round."""
        spans: list[range] = []
        for number in batches:
            if spans and spans[-1].stop == number:
                spans[-1] = range(spans[-1].start, number + 1)
            else:
                spans.append(range(number, number + 1))
        self._spans = [*spans, *self._spans]

    def state(self) -> dict[str, Any]:
        """Where the epoch stands, as plain data."""
        return {"count": self.count, "left": [[span.start, span.stop] for span in self._spans if span]}

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Pool:
        """The pool of a state.

        Raises:
            ValueError: it is no state of a pool.
        """
        pool = cls(int(state["count"]))
        pool._spans = [range(int(start), int(stop)) for start, stop in state["left"]]
        behind = sorted(pool._spans, key=lambda span: span.start)
        ends = [0, *(span.stop for span in behind)]
        bad = any(not end <= span.start < span.stop for end, span in zip(ends, behind, strict=False))
        if bad or ends[-1] > pool.count:
            raise ValueError(f"no state of a pool of {pool.count} batches: {state['left'][:4]}")
        return pool
