"""`GradientSums`: gradients added up over all ranks while the backward pass still runs.

Gradients travel in buckets, the last layers' first, because these are done first. DistributedDataParallel
does the same, but wants as many batches of every rank, none empty, and a gradient for every parameter; shares
of unequal size break all three.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

LARGEST_BUCKET, SMALLEST_BUCKET, NUM_BUCKETS = 25 << 20, 1 << 20, 8
"""Bytes of a bucket, and how many a model should have at least: of few, most is sent when nothing is left to
compute beside it. A bucket costs a fixed time, too.
"""


class _Bucket:
    """Parameters whose gradients travel together.

    Attributes:
        waiting: numbers of parameters whose gradient is not done yet.
        flat: their gradients end to end, once they travel.
        work: the sum in progress.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = parameters
        self.waiting: set[int] = set()
        self.flat: Tensor | None = None
        self.work: dist.Work | None = None

    def launch(self) -> None:
        """Start the sum; a gradient that is missing here counts as zero."""
        parts = [p.new_zeros(p.numel()) if p.grad is None else p.grad.reshape(-1) for p in self.parameters]
        self.flat = torch.cat(parts) if len(parts) > 1 else parts[0].clone()
        self.work = dist.all_reduce(self.flat, async_op=True)

    def collect(self, used: Sequence[bool]) -> None:
        """Wait for the sum and put it into the gradients; what no rank has stays missing."""
        assert self.work is not None
        assert self.flat is not None
        self.work.wait()
        parts = torch.split(self.flat, [p.numel() for p in self.parameters])
        for parameter, part, has in zip(self.parameters, parts, used, strict=True):
            parameter.grad = part.view_as(parameter) if has else None
        self.flat = self.work = None


class GradientSums:
    """Sums the gradients of some parameters over all ranks.

    Every rank makes the same calls: `arm` before the backward pass of its last batch, if it has any, then
    `finish`. All ranks send the same buckets in the same order, whether or not they overlap with anything.

    Args:
        parameters: what is trained, in the order of the forward pass.
        bucket_bytes: size of a bucket; left out, by the size of the model.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, bucket_bytes: int | None = None) -> None:
        self.parameters = [p for p in parameters if p.requires_grad]
        whole = sum(p.numel() * p.element_size() for p in self.parameters)
        usual = min(LARGEST_BUCKET, max(SMALLEST_BUCKET, whole // NUM_BUCKETS))
        self._buckets = _buckets(self.parameters, bucket_bytes or usual)
        self._place = {id(p): i for i, bucket in enumerate(self._buckets) for p in bucket.parameters}
        self._armed = False
        self._next = 0
        self.overlapped = 0
        """Buckets of the last step that were sent before its backward pass had ended."""
        self._twice = False
        hook: Any = torch.Tensor.register_post_accumulate_grad_hook
        self._hooks = [hook(p, self._done) for p in self.parameters]

    def arm(self) -> None:
        """The next backward pass is this rank's last of the step: send each bucket when it is complete."""
        self._next = 0
        self._armed = not self._twice
        for bucket in self._buckets:
            bucket.waiting = {id(p) for p in bucket.parameters}

    def _done(self, parameter: Tensor) -> None:
        if not self._armed:
            return
        bucket = self._buckets[self._place[id(parameter)]]
        if id(parameter) not in bucket.waiting:  # recomputed layers that share weights add to it again
            self._twice = True
            self._armed = False
            if bucket.flat is not None:
                raise RuntimeError(
                    "A gradient grew after it was sent to the other ranks: weights that are shared by layers "
                    "with reentrant gradient checkpointing. Use `use_reentrant=False`."
                )
            return
        bucket.waiting.discard(id(parameter))
        while self._next < len(self._buckets) and not self._buckets[self._next].waiting:
            self._buckets[self._next].launch()
            self._next += 1

    def finish(self, numbers: Sequence[float]) -> list[float]:
        """Send what is left, wait for all, and give the sums of some numbers over all ranks."""
        self._armed = False
        self.overlapped = self._next
        for bucket in self._buckets[self._next :]:
            bucket.launch()
        self._next = 0
        order = [p for bucket in self._buckets for p in bucket.parameters]
        own = torch.tensor([*numbers, *(float(p.grad is not None) for p in order)], dtype=torch.float64)
        dist.all_reduce(own)
        found: list[float] = own.tolist()
        used = [value > 0 for value in found[len(numbers) :]]
        at = 0
        for bucket in self._buckets:
            bucket.collect(used[at : at + len(bucket.parameters)])
            at += len(bucket.parameters)
        return found[: len(numbers)]

    def close(self) -> None:
        """Leave the parameters alone from now on."""
        for hook in self._hooks:
            hook.remove()


def _buckets(parameters: Sequence[nn.Parameter], size: int) -> list[_Bucket]:
    """Last parameters first; one kind of numbers and one device in a bucket."""
    found: list[list[nn.Parameter]] = []
    room, kind = 0, None
    for parameter in reversed(parameters):
        bytes_ = parameter.numel() * parameter.element_size()
        if kind != (parameter.dtype, parameter.device) or room < bytes_:
            room, kind = size, (parameter.dtype, parameter.device)
            found.append([])
        found[-1].append(parameter)
        room -= bytes_
    return [_Bucket(parameters) for parameters in found]
