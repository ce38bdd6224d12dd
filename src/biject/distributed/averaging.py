"""`Averager`: tensors of all ranks averaged by the work that each did, while ranks may already go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from biject.config.sync import SyncConfig

BUCKET_NUMBERS = 8 << 20


@dataclass(kw_only=True)
class Pending:
    """An average that is on its way.

    Attributes:
        before: this rank's values when it was sent; None where the rank waits for it.
        flats: sums of weighted values, bucket by bucket.
        weight: the sum of weights, behind `num_numbers` numbers of the caller's.
        works: the exchanges.
    """

    before: list[Tensor] | None
    flats: list[Tensor]
    numbers: Tensor
    works: list[dist.Work]

    def done(self) -> bool:
        """Whether it has arrived."""
        return all(work.is_completed() for work in self.works)


class Averager:
    """Averages what training changes: parameters, floating-point buffers, if wanted the optimizer's moments.

    Args:
        parameters: trained ones; the divergence is theirs.
        others: lists further tensors, anew each time.
        config: the outer step.

    Attributes:
        velocity: of the outer step, one a parameter; empty without.
    """

    def __init__(
        self, parameters: Sequence[Tensor], others: Callable[[], list[Tensor]], config: SyncConfig
    ) -> None:
        self.parameters, self.others, self.config = list(parameters), others, config
        self.velocity: list[Tensor] = []
        self._last: list[Tensor] = []
        if config.outer == "nesterov":
            self.velocity = [torch.zeros_like(p) for p in self.parameters]
            self.anchor_here()

    def anchor_here(self) -> None:
        """The parameters are those that the ranks agreed on last."""
        if self.config.outer == "nesterov":
            self._last = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def launch(self, weight: float, numbers: Sequence[float], *, keep: bool) -> Pending:
        """Send this rank's values and numbers.

        Args:
            weight: work done since the last average.
            numbers: to be summed over ranks.
            keep: remember the values, as the rank goes on before the average is there.
        """
        sums = torch.tensor([*numbers, weight], dtype=torch.float64)
        works = [dist.all_reduce(sums, async_op=True)]
        tensors = [*self.parameters, *self.others()]
        flats = []
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.detach().reshape(-1) for tensor in bucket]) * weight
            works.append(dist.all_reduce(flat, async_op=True))
            flats.append(flat)
        before = [tensor.detach().clone() for tensor in tensors] if keep else None
        return Pending(before=before, flats=flats, numbers=sums, works=works)

    @torch.no_grad()
    def collect(self, pending: Pending) -> tuple[list[float], float]:
        """Wait for an average and take it; what was done since it was sent is kept, on top of it.

        Returns:
            The summed numbers, and how far this rank's parameters were from the average, relative to it.
        """
        for work in pending.works:
            work.wait()
        *numbers, total = pending.numbers.tolist()
        if total <= 0:
            return numbers, 0.0
        tensors = [*self.parameters, *self.others()]
        means = [
            part.view_as(tensor) / total
            for flat, bucket in zip(pending.flats, _buckets(tensors), strict=True)
            for part, tensor in zip(torch.split(flat, [t.numel() for t in bucket]), bucket, strict=True)
        ]
        before = tensors if pending.before is None else pending.before
        count = len(self.parameters)
        divergence = _distance(before[:count], means[:count])
        for number, (tensor, sent, mean) in enumerate(zip(tensors, before, means, strict=True)):
            target = self._outer(number, mean) if number < count and self.velocity else mean
            tensor.copy_(target if pending.before is None else target + (tensor - sent))
        return numbers, divergence

    def _outer(self, number: int, mean: Tensor) -> Tensor:
        """A Nesterov step from the last agreed value towards the mean."""
        momentum, last, velocity = self.config.outer_momentum, self._last[number], self.velocity[number]
        change = last - mean
        velocity.mul_(momentum).add_(change)
        last.sub_(change.add(velocity, alpha=momentum), alpha=self.config.outer_lr)
        return last


def _distance(values: Sequence[Tensor], means: Sequence[Tensor]) -> float:
    apart = sum(
        float((value - mean).double().square().sum()) for value, mean in zip(values, means, strict=True)
    )
    whole = sum(float(mean.double().square().sum()) for mean in means)
    return float((apart / whole) ** 0.5) if whole else 0.0


def _buckets(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Consecutive tensors of one kind, together below the size of a bucket."""
    found: list[list[Tensor]] = []
    room, kind = 0, None
    for tensor in tensors:
        if kind != (tensor.dtype, tensor.device) or room < tensor.numel():
            room, kind = BUCKET_NUMBERS, (tensor.dtype, tensor.device)
            found.append([])
        found[-1].append(tensor)
        room -= tensor.numel()
    return found
