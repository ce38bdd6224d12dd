"""Numbers shared between ranks, on `torch.distributed`; without it, one rank that has everything.

Every rank makes the same calls in the same order. Numbers travel over Gloo and tensors of a GPU over NCCL.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from biject.distributed.ending import let_go_at_exit
from biject.errors import BijectError, CheckpointError

START_SECONDS = 300.0
"""How long processes wait for each other at the start, where some still import what others have."""


def start(*, timeout: float = 1800.0) -> None:
    """Join the group that torchrun announces, if it does: NCCL on GPUs, Gloo on CPUs, and where processes of
    both kinds work together Gloo for all, which sends what GPUs have through the CPU.

    Args:
        timeout: seconds until a rank that waits for another one gives up.
    """
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ and not dist.is_initialized():
        patience = timedelta(seconds=max(timeout, START_SECONDS))
        store, own, size = next(rendezvous("env://", timeout=patience))
        # torchrun keeps its store over restarts: addresses of an attempt that failed must not be met again
        attempt = f"attempt-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
        store = dist.distributed_c10d.PrefixStore(attempt, store)
        backend = _backend(store, size)
        dist.init_process_group(backend, store=store, rank=own, world_size=size, timeout=patience)
        dist.distributed_c10d._set_pg_timeout(timedelta(seconds=timeout))
        let_go_at_exit()
        atexit.register(_stop)


def accelerators() -> list[torch.device]:
    """The GPUs that this machine's processes may have, one each."""
    return [torch.device("cuda", number) for number in range(torch.cuda.device_count())]


def _backend(store: Any, size: int) -> str:
    """What tensors travel over: decided by all processes together, from how many have a GPU."""
    with_one = len(accelerators()) > _local_rank()
    store.add("with-gpu", int(with_one))
    if store.add("said", 1) == size:  # the last one knows of all
        store.set("gpus", str(store.add("with-gpu", 0)))
    found = int(store.get("gpus"))
    if found == 0:
        return "gloo"
    return "cpu:gloo,cuda:nccl" if found == size else MIXED


MIXED = "cpu:gloo,cuda:gloo"


def mixed() -> bool:
    """Whether some processes have a GPU and others the CPU."""
    return dist.is_initialized() and dist.get_backend_config() == MIXED


def _local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))


_own = threading.local()
"""The group whose exchanges those of this thread are, where it has one."""


def another_group() -> Any:
    """The same processes as a group of their own, over Gloo; all call this at the same time."""
    return dist.new_group(backend="gloo")


def own_group() -> Any:
    """The group of this thread; None for the run's."""
    return getattr(_own, "group", None)


@contextmanager
def within(group: Any) -> Iterator[None]:
    """Inside the block this thread's exchanges are a group's; None for the run's."""
    _own.group = group
    try:
        yield
    finally:
        _own.group = None


def restarted() -> bool:
    """Whether torchrun started this process anew after another attempt failed."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


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
    """Where this rank computes: on the GPU with its local number; where there are fewer, on the CPU."""
    if count() == 1 or device.type != "cuda":
        return device
    found = accelerators()
    if _local_rank() >= len(found):
        return torch.device("cpu")
    torch.cuda.set_device(found[_local_rank()])
    return found[_local_rank()]


def totals(*values: float) -> list[float]:
    """The sum of each number over all ranks."""
    if count() == 1:
        return list(values)
    tensor = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(tensor, group=own_group())
    return [float(value) for value in tensor]


def total_later(value: float, *, waited: Callable[[float], None], alone: bool = False) -> Callable[[], float]:
    """The sum of a number over all ranks, on its way while this rank computes.

    Args:
        value: this rank's.
        waited: told how many seconds the first call of the result had to wait.
        alone: other ranks have no part in it.
    """
    if alone or count() == 1:
        return lambda: value
    tensor = torch.tensor([value], dtype=torch.float64)
    works = [dist.all_reduce(tensor, async_op=True)]

    def found() -> float:
        if works:
            started = time.perf_counter()
            works.pop().wait()
            waited(time.perf_counter() - started)
        return float(tensor)

    return found


def largest(*values: float) -> list[float]:
    """The largest of each number over all ranks."""
    if count() == 1:
        return list(values)
    tensor = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return [float(value) for value in tensor]


def collect(own: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """The tensors of every rank, on the CPU, in rank 0; of the others nothing is known elsewhere.

    A rank whose tensors have other names or sizes than rank 0's is left out: an empty dict.
    """
    mine = {name: tensor.detach().cpu().contiguous() for name, tensor in own.items()}
    if count() == 1:
        return [mine]
    said = [(name, tuple(tensor.shape), str(tensor.dtype)) for name, tensor in mine.items()]
    all_said: list[Any] = [None] * count()
    dist.all_gather_object(all_said, said)
    found = [mine] if rank() == 0 else []
    for other in range(1, count()):
        if all_said[other] != all_said[0]:
            found += [{}] if rank() == 0 else []
        elif rank() == 0:
            found.append({name: torch.empty_like(tensor) for name, tensor in mine.items()})
            for tensor in found[-1].values():
                dist.recv(tensor, src=other)
        elif rank() == other:
            for tensor in mine.values():
                dist.send(tensor, dst=0)
    return found


def everyones(own: Any) -> list[Any]:
    """A plain object of every rank, in their order."""
    found: list[Any] = [None] * count()
    dist.all_gather_object(found, own)
    return found


def gather(own: Tensor) -> list[Tensor]:
    """A tensor of the same size from every rank, on the CPU."""
    if count() == 1:
        return [own]
    found = [torch.empty_like(own) for _ in range(count())]
    dist.all_gather(found, own)
    return found


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
