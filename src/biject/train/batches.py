"""Which samples make up each optimizer step, for every rank: decided by seed, epoch and sizes alone.

Every sample of an epoch is used exactly once, the last uneven batch included. A step's samples do not
depend on the number of ranks: W ranks with batches of b use the samples of one rank with W · b.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from biject.distributed.handout import split
from biject.distributed.speeds import Array
from biject.errors import ConfigError

Collate = Callable[[list[Any]], Any]
"""Makes a batch of samples."""


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """The order of an epoch, cut into steps.

    Attributes:
        num_samples: Samples in the data set.
        batch_size: Samples a rank computes at once.
        accumulate: Batches a rank adds up in a step.
        num_ranks: Ranks that share a step.
        step_ranks: Ranks whose `accumulate` batches make up a step; left out, those that share it. A run that
            goes on with another number of ranks keeps its steps.
        seed: Of the order; each epoch draws its own.
        lengths: Tokens of each sample, needed for `max_tokens`.
        max_tokens: Batches have as many samples as fit, padding counted, instead of `batch_size`.
        shuffle: False keeps the data's order.
    """

    num_samples: int
    batch_size: int = 32
    accumulate: int = 1
    num_ranks: int = 1
    step_ranks: int | None = None
    seed: int = 0
    lengths: Sequence[int] | None = None
    max_tokens: int | None = None
    shuffle: bool = True

    def order(self, epoch: int) -> list[int]:
        """A permutation of all samples."""
        if not self.shuffle:
            return list(range(self.num_samples))
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        return [int(i) for i in torch.randperm(self.num_samples, generator=generator)]

    def steps(self, epoch: int) -> list[list[list[list[int]]]]:
        """For every step, for every rank, for every batch: the samples, in equal shares. A rank's last ones
        may be empty.
        """
        return [self.share(batches) for batches in self.whole_steps(epoch)]

    def whole_steps(self, epoch: int) -> list[list[list[int]]]:
        """For every step its batches, for all ranks together."""
        batches = self.batches(epoch)
        at_once = self.accumulate * (self.step_ranks or self.num_ranks)
        return [batches[at : at + at_once] for at in range(0, len(batches), at_once)]

    def windows(self, epoch: int) -> list[list[list[int]]]:
        """An epoch's batches, as many together as a rank adds up before it steps."""
        batches = self.batches(epoch)
        return [batches[at : at + self.accumulate] for at in range(0, len(batches), self.accumulate)]

    def batches(self, epoch: int) -> list[list[int]]:
        """An epoch's batches in their order, each as large as a rank computes at once; the last is uneven."""
        order = self.order(epoch)
        if self.max_tokens is not None:
            return self._by_tokens(order, epoch)
        return [order[at : at + self.batch_size] for at in range(0, len(order), self.batch_size)]

    def share(
        self, batches: list[list[int]], weights: Array | None = None, *, by_samples: bool = False
    ) -> list[list[list[int]]]:
        """One step's samples as every rank's batches.

        Args:
            batches: of the step.
            weights: relative shares of the ranks; left out, as many batches for each.
            by_samples: shares are of samples, even where tokens are known.
        """
        if weights is None and self.step_ranks in (None, self.num_ranks):
            if self.max_tokens is not None:
                return [batches[rank :: self.num_ranks] for rank in range(self.num_ranks)]
            ends = [rank * self.accumulate for rank in range(self.num_ranks + 1)]
            return [batches[start:end] for start, end in pairwise(ends)]
        return split(
            [sample for batch in batches for sample in batch],
            [1.0] * self.num_ranks if weights is None else weights,
            batch_size=self.batch_size,
            lengths=self.lengths,
            max_tokens=self.max_tokens,
            by_samples=by_samples,
        )

    def _by_tokens(self, order: list[int], epoch: int) -> list[list[int]]:
        """Neighbours in length share a batch: sorted within pools of the shuffled order, then mixed again."""
        lengths, budget = self.lengths, self.max_tokens
        if lengths is None or budget is None:
            raise ConfigError("max_tokens needs a data set that knows its samples' lengths.")
        too_long = max(lengths, default=0)
        if too_long > budget:
            raise ConfigError(f"max_tokens is {budget}, but a sample has {too_long} tokens.")
        batches: list[list[int]] = []
        pool = 64 * max(1, budget // max(1, sum(lengths) // max(1, len(lengths))))
        for at in range(0, len(order), pool):
            batch: list[int] = []
            for sample in sorted(order[at : at + pool], key=lambda i: lengths[i]):
                if batch and (len(batch) + 1) * lengths[sample] > budget:
                    batches.append(batch)
                    batch = []
                batch.append(sample)
            batches.append(batch)
        if not self.shuffle:
            return batches
        generator = torch.Generator().manual_seed(-1 - self.seed * 1_000_003 - epoch)
        return [batches[int(i)] for i in torch.randperm(len(batches), generator=generator)]


def to_device(batch: Any, device: torch.device) -> Any:
    """A batch with its tensors on a device; dicts, lists and tuples of them as well."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        return type(batch)(to_device(value, device) for value in batch)
    return batch
