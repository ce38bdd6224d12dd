"""Numbers shared between ranks, on `torch.distributed`; without it, one rank that has everything."""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

BUCKET_BYTES = 32 << 20


def start() -> None:
    """Join the group that torchrun announces, if it does: NCCL on GPUs, Gloo on CPUs."""
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ and not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def rank() -> int:
    """This process's place, 0 alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def count() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def total(value: float) -> float:
    """The sum of a number over all ranks."""
    if count() == 1:
        return value
    backend = dist.get_backend()
    device = torch.device("cuda", torch.cuda.current_device()) if backend == "nccl" else torch.device("cpu")
    tensor = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(tensor)
    return float(tensor)


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Add up gradients over all ranks, in buckets; one that is missing here counts as zero."""
    if count() == 1:
        return
    bucket: list[nn.Parameter] = []
    held = 0
    for parameter in parameters:
        if not parameter.requires_grad:
            continue
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        if bucket and (held > BUCKET_BYTES or bucket[0].grad.dtype != parameter.grad.dtype):  # type: ignore[union-attr]
            _reduce(bucket)
            bucket, held = [], 0
        bucket.append(parameter)
        held += parameter.grad.numel() * parameter.grad.element_size()
    if bucket:
        _reduce(bucket)


def _reduce(bucket: list[nn.Parameter]) -> None:
    gradients = [p.grad for p in bucket if p.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, part in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def broadcast(tensors: Iterable[Tensor]) -> None:
    """Give every rank the first one's values."""
    if count() > 1:
        for tensor in tensors:
            dist.broadcast(tensor, src=0)


def wait() -> None:
    """Until all ranks are here."""
    if count() > 1:
        dist.barrier()
