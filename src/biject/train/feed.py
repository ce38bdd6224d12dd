"""`Feed`: from samples to the batches of this rank."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import accumulate, islice
from typing import Any

import torch

from biject.distributed.shares import Shares
from biject.distributed.speeds import apportion
from biject.errors import InputError
from biject.train import ranks
from biject.train.batches import Collate, Sampler, to_device
from biject.train.meter import Meter
from biject.train.sharded import Idle, padded


class Feed:
    """This rank's batches, step by step.

    Args:
        dataset: samples, or an iterable of batches.
        sampler: the order of samples; None for an iterable.
        collate: makes a batch of samples.
        shares: how much each rank does.
        meter: counts the time that goes into batches.
        together: all ranks have to run as many batches, as their model is spread over them.

    Attributes:
        samples: (W,) every rank's, of the step that was given last; None of an iterable.
    """

    def __init__(
        self,
        dataset: Any,
        sampler: Sampler | None,
        collate: Collate,
        shares: Shares,
        meter: Meter,
        *,
        together: bool = False,
    ) -> None:
        self.dataset, self.sampler, self.collate = dataset, sampler, collate
        self.shares, self.meter, self.together = shares, meter, together
        self.samples: list[float] | None = None

    def steps(
        self, epoch: int, *, skip: int, at_once: int, device: torch.device
    ) -> Iterator[tuple[list[Any], bool]]:
        """Batches of each step of an epoch but the first `skip`, and whether it is the last.

        Args:
            epoch: which one.
            skip: steps that were done already.
            at_once: batches of a step, of an iterable.
            device: where they go.
        """
        self.set_epoch(epoch)
        if self.sampler is None:
            for window in islice(self._streamed(at_once), skip, None):
                yield self._placed(window, device), False
            return
        steps = self.sampler.whole_steps(epoch)
        for index, whole in enumerate(steps[skip:], start=skip):
            started = time.perf_counter()
            batches = self._mine(whole)
            self.meter.prepared += time.perf_counter() - started
            yield self._placed(batches, device), index == len(steps) - 1

    def _mine(self, whole: list[list[int]]) -> list[Any]:
        assert self.sampler is not None
        shares = self.sampler.share(whole, self.shares.weights, by_samples=self.shares.by_samples)
        self.samples = [float(sum(map(len, share))) for share in shares]
        if not self.together:
            return self.collated(shares[ranks.rank()])
        full, counts = padded(shares)
        made = self.collated(full[ranks.rank()])
        return [
            batch if real else Idle(batch) for batch, real in zip(made, counts[ranks.rank()], strict=True)
        ]

    def collated(self, samples: Sequence[Sequence[int]]) -> list[Any]:
        """Batches of samples by their numbers."""
        return [self.collate([self.dataset[i] for i in batch]) for batch in samples if batch]

    def set_epoch(self, epoch: int) -> None:
        """Tell the data set, if it wants to know; of a loader of batches what it draws and reads from."""
        parts = () if self.sampler is not None else ("sampler", "batch_sampler", "dataset")
        within: list[Any] = [getattr(self.dataset, name, None) for name in parts]
        for one in [self.dataset] if hasattr(self.dataset, "set_epoch") else within:
            if hasattr(one, "set_epoch"):
                one.set_epoch(epoch)

    def _placed(self, batches: list[Any], device: torch.device) -> list[Any]:
        started = time.perf_counter()
        found = [
            Idle(to_device(b.batch, device)) if isinstance(b, Idle) else to_device(b, device) for b in batches
        ]
        self.meter.prepared += time.perf_counter() - started
        return found

    def _streamed(self, at_once: int) -> Iterator[list[Any]]:
        """An iterable of ready batches: each rank takes its share of a step's, none where they run out."""
        if self.together:
            raise InputError("A model that is sharded needs a data set with a length and items.")
        batches = iter(self.dataset)
        while window := list(islice(batches, at_once)):
            if self.shares.weights is None:
                yield window[ranks.rank() :: ranks.count()]
                continue
            ends = [0, *accumulate(apportion(len(window), self.shares.weights))]
            yield window[ends[ranks.rank()] : ends[ranks.rank() + 1]]
