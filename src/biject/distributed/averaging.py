"""`Averager`: tensors of all ranks averaged by the work that each did, while ranks may already go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from biject.config.sync import SyncConfig
from biject.distributed.matching import stretch

BUCKET_NUMBERS = 8 << 20
LONGEST = 1.9
"""How many times as far as the mean of the ranks' ways an average goes at most: from 2 on what ranks remember
of the last one would grow apart, meeting by meeting, where their devices round differently.
"""


@dataclass(kw_only=True)
class Pending:
    """An average that is on its way.

    Attributes:
        before: this rank's values when it was sent; None where the rank waits for it.
        flats: sums of weighted values, bucket by bucket.
        numbers: the caller's, and behind them our own.
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
        memory: of an optimizer whose steps do not grow with the gradient, how much of the mean gradient it
            keeps at each; None of others.

    Attributes:
        velocity: of the outer step, one a parameter; empty without.
        stretch: how many times as far as the mean of the ranks' ways the last average went.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        others: Callable[[], list[Tensor]],
        config: SyncConfig,
        memory: float | None = None,
    ) -> None:
        self.parameters, self.others, self.config = list(parameters), others, config
        self.memory = memory if config.outer == "matched" else None
        self.stretch = 1.0
        self.velocity: list[Tensor] = []
        self._last: list[Tensor] = []
        if config.outer == "nesterov":
            self.velocity = [torch.zeros_like(p) for p in self.parameters]
        self.anchor_here()

    def anchor_here(self) -> None:
        """The parameters are those that the ranks agreed on last."""
        if self.velocity or self.memory is not None:
            self._last = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def launch(self, weight: float, numbers: Sequence[float], *, steps: int, keep: bool) -> Pending:
        """Send this rank's values and numbers.

        Args:
            weight: work done since the last average.
            numbers: to be summed over ranks.
            steps: of the optimizer since then.
            keep: remember the values, as the rank goes on before the average is there.
        """
        way = _distance(self.parameters, self._last) ** 2 if self.memory is not None else 0.0
        own = [weight * way, weight * steps, weight * weight, weight]
        sums = torch.tensor([*numbers, *own], dtype=torch.float64)
        works = [dist.all_reduce(sums, async_op=True)]
        tensors = [*self.parameters, *self.others()]
        flats = []
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.detach().reshape(-1) for tensor in bucket]).mul_(weight)
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
        *numbers, ways, steps, squares, total = pending.numbers.tolist()
        if total <= 0:
            return numbers, 0.0
        tensors = [*self.parameters, *self.others()]
        for flat in pending.flats:
            flat.div_(total)
        means = [
            part.view_as(tensor)
            for flat, bucket in zip(pending.flats, _buckets(tensors), strict=True)
            for part, tensor in zip(torch.split(flat, [t.numel() for t in bucket]), bucket, strict=True)
        ]
        before = tensors if pending.before is None else pending.before
        count = len(self.parameters)
        size = _norm(means[:count])
        divergence = _distance(before[:count], means[:count]) / size if size else 0.0
        if self.memory is not None:
            self._match(means[:count], ways / total, steps / total, squares / total**2)
        for number, (tensor, sent, mean) in enumerate(zip(tensors, before, means, strict=True)):
            target = self._outer(number, mean) if number < count and self._last else mean
            tensor.copy_(target if pending.before is None else target + (tensor - sent))
        return numbers, divergence

    def _match(self, means: Sequence[Tensor], ways: float, steps: float, weights: float) -> None:
        """How far the ranks go together, from how far each went, squared, and their mean."""
        assert self.memory is not None
        along = _distance(means, self._last) ** 2
        if along > 0:
            count = dist.get_world_size()
            found = stretch(ratio=ways / along, weights=weights, ranks=count, steps=steps, memory=self.memory)
            self.stretch = min(found, LONGEST)

    def _outer(self, number: int, mean: Tensor) -> Tensor:
        """From the last agreed value beyond the mean, or a Nesterov step towards it."""
        last = self._last[number]
        if self.memory is not None:
            return last.add_(mean - last, alpha=self.stretch)
        momentum, velocity = self.config.outer_momentum, self.velocity[number]
        change = last - mean
        velocity.mul_(momentum).add_(change)
        last.sub_(change.add(velocity, alpha=momentum), alpha=self.config.outer_lr)
        return last


def _distance(values: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    """In the tensors' own numbers: a meeting should cost little, and three digits are enough."""
    return _norm([value.detach() - other for value, other in zip(values, others, strict=True)])


def _norm(values: Sequence[Tensor]) -> float:
    return float(sum(float(torch.linalg.vector_norm(value)) ** 2 for value in values) ** 0.5)


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
