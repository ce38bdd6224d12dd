"""Numbers shared between ranks, on `torch.distributed`; without it, one rank that has everything.

Every rank makes the same calls in the same order. Numbers travel over Gloo and tensors of a GPU over NCCL.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from biject.errors import BijectError, CheckpointError

BUCKET_BYTES = 32 << 20


def start() -> None:
    """Join the group that torchrun announces, if it does: NCCL on GPUs, Gloo on CPUs."""
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ and not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        atexit.register(_stop)


def _stop() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """This process's place, 0 alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def count() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def own_device(device: torch.device) -> torch.device:
    """Where this rank computes: of several GPUs the one with its local number."""
    if count() == 1 or device.type != "cuda":
        return device
    own = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    torch.cuda.set_device(own)
    return own


def totals(*values: float) -> list[float]:
    """The sum of each number over all ranks."""
    if count() == 1:
        return list(values)
    tensor = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(tensor)
    return [float(value) for value in tensor]


def gather(own: Tensor) -> list[Tensor]:
    """A tensor of the same size from every rank, on the CPU."""
    if count() == 1:
        return [own]
    found = [torch.empty_like(own) for _ in range(count())]
    dist.all_gather(found, own)
    return found


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Add up gradients over all ranks, in buckets.

    One that is missing here counts as zero; one that no rank has stays missing, so that optimizers pass over
    it as they do in one process.
    """
    if count() == 1:
        return
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    have = torch.tensor([parameter.grad is not None for parameter in trained], dtype=torch.int32)
    dist.all_reduce(have)
    bucket: list[Tensor] = []
    size = 0
    for parameter, num_ranks in zip(trained, have.tolist(), strict=True):
        if not num_ranks:
            continue
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        gradient = parameter.grad
        if bucket and (
            size > BUCKET_BYTES or (bucket[0].dtype, bucket[0].device) != (gradient.dtype, gradient.device)
        ):
            _reduce(bucket)
            bucket, size = [], 0
        bucket.append(gradient)
        size += gradient.numel() * gradient.element_size()
    if bucket:
        _reduce(bucket)


def _reduce(gradients: list[Tensor]) -> None:
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, part in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def broadcast(tensors: Iterable[Tensor]) -> None:
    """Give every rank the first one's values."""
    if count() > 1:
        for tensor in tensors:
            dist.broadcast(tensor, src=0)


def same(found: dict[str, float]) -> dict[str, float]:
    """Rank 0's numbers for all, so that all decide alike from them."""
    if count() == 1:
        return found
    values = torch.tensor(list(found.values()), dtype=torch.float64)
    dist.broadcast(values, src=0)
    return dict(zip(found, values.tolist(), strict=True))


def on_first(action: Callable[[], object]) -> None:
    """Do something on rank 0 alone, such as writing; all wait, and all fail if it fails.

    Raises:
        BijectError: what went wrong on rank 0; elsewhere that something did.
    """
    problem: BijectError | None = None
    if rank() == 0:
        try:
            action()
        except BijectError as error:
            problem = error
    failed = totals(float(problem is not None))[0]
    if problem is not None:
        raise problem
    if failed:
        raise CheckpointError("rank 0 could not write; see its own message.")


def wait() -> None:
    """Until all ranks are here."""
    if count() > 1:
        dist.barrier()
