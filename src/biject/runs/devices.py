"""The devices of this machine, how fast each trains a run's batches, and what sharing by speed would give."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from biject.runs.machine import available_bytes

_TIMED_BYTES = 64 << 20
"""At most so many are copied to time an exchange."""


@dataclass(frozen=True, kw_only=True)
class DeviceSpeed:
    """A device, measured.

    Attributes:
        name: As torch calls it.
        what: For people.
        free_bytes: Of memory; None where the system does not say.
        step_seconds: Of one optimizer step of the run; None where the run does not fit.
        tokens_per_second: In these steps.
    """

    name: str
    what: str
    free_bytes: int | None
    step_seconds: float | None
    tokens_per_second: float | None


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """What a run on several devices would be, by their speeds alone.

    Attributes:
        devices: Names.
        shares: Of each global batch, by speed; they add up to 1.
        over_fastest: How many times as fast as the fastest device alone.
        over_equal: How many times as fast as equal shares, where the slowest decides.
        exchange_bytes: Gradients that travel in every step.
        worth_below_seconds: Sharing pays where the exchange takes less than this in a step.
    """

    devices: tuple[str, ...]
    shares: tuple[float, ...]
    over_fastest: float
    over_equal: float
    exchange_bytes: int
    worth_below_seconds: float


@dataclass(frozen=True, kw_only=True)
class Helper:
    """Whether the CPU should work beside the GPUs.

    Attributes:
        pays: A step is shorter with it.
        step_seconds: Of a step of all together, with the exchange.
        without_seconds: Of a step of the GPUs alone; what they exchange is not counted.
        exchange_seconds: What the exchange takes, as gradients then pass through the CPU's memory: timed
            without a network.
    """

    pays: bool
    step_seconds: float
    without_seconds: float
    exchange_seconds: float


@dataclass(frozen=True, kw_only=True)
class Devices:
    """All of them; `sharing` is None where one alone can train the run, `helper` without a GPU."""

    found: tuple[DeviceSpeed, ...]
    sharing: Sharing | None
    helper: Helper | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def inventory() -> list[torch.device]:
    """The CPU and every GPU that torch can use."""
    return [torch.device("cpu")] + [torch.device("cuda", n) for n in range(torch.cuda.device_count())]


def measure_devices(
    step_seconds: Callable[[torch.device], float | None], *, tokens: float, exchange_bytes: int
) -> Devices:
    """Measure a run's step on each device.

    Args:
        step_seconds: Times one; None where the run does not fit.
        tokens: Of a step.
        exchange_bytes: Of a step's gradients.
    """
    found = []
    for device in inventory():
        seconds = step_seconds(device)
        found.append(
            DeviceSpeed(
                name=str(device),
                what=_what(device),
                free_bytes=available_bytes(device),
                step_seconds=seconds,
                tokens_per_second=None if seconds is None else tokens / seconds,
            )
        )
    kinds = {one.name: one.step_seconds for one in found}
    both = kinds.get("cpu") is not None and any(s is not None for n, s in kinds.items() if n != "cpu")
    seconds = exchange_seconds(inventory(), exchange_bytes) if both else 0.0
    helper = helps(found, exchange_seconds=seconds)
    sharing = share(found, exchange_bytes=exchange_bytes, with_cpu=helper is not None and helper.pays)
    return Devices(found=tuple(found), sharing=sharing, helper=helper)


def exchange_seconds(devices: Sequence[torch.device], size: int) -> float:
    """How long gradients of so many bytes take from a GPU through the CPU's memory to another process and
    back: the copies, and three passes over them for sending, receiving and adding.
    """
    count = max(1, min(size, _TIMED_BYTES) // 4)
    there = torch.zeros(count, device=devices[-1])
    here, other = torch.zeros(count), torch.ones(count)
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        here.copy_(there)
        for _ in range(3):
            here.add_(other)
        there.copy_(here)
        float(there[0])  # waits for the device
        best = min(best, time.perf_counter() - started)
    return best * size / (4 * count)


def helps(found: Sequence[DeviceSpeed], *, exchange_seconds: float) -> Helper | None:
    """Whether the CPU makes a step of the GPUs shorter, though all then exchange through its memory."""
    rates = {one.name: 1 / one.step_seconds for one in found if one.step_seconds}
    gpus = [rate for name, rate in rates.items() if name != "cpu"]
    if not gpus or "cpu" not in rates:
        return None
    together, alone = 1 / (sum(gpus) + rates["cpu"]) + exchange_seconds, 1 / sum(gpus)
    return Helper(
        pays=together < alone,
        step_seconds=together,
        without_seconds=alone,
        exchange_seconds=exchange_seconds,
    )


def share(found: Sequence[DeviceSpeed], *, exchange_bytes: int, with_cpu: bool = False) -> Sharing | None:
    """By speed, among the GPUs, the CPU beside them where it helps; or whatever there is of one kind."""
    usable = [one for one in found if one.step_seconds is not None]
    gpus = [one for one in usable if one.name != "cpu"]
    chosen = [*gpus, *(one for one in usable if one.name == "cpu")] if with_cpu else gpus or usable
    if len(chosen) < 2:
        return None
    rates = [1 / one.step_seconds for one in chosen if one.step_seconds]
    whole, fastest = sum(rates), max(rates)
    return Sharing(
        devices=tuple(one.name for one in chosen),
        shares=tuple(rate / whole for rate in rates),
        over_fastest=whole / fastest,
        over_equal=whole / (len(rates) * min(rates)),
        exchange_bytes=exchange_bytes,
        worth_below_seconds=1 / fastest - 1 / whole,
    )


def _what(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    count = torch.get_num_threads()
    return f"{count} thread{'s' if count > 1 else ''}, {torch.backends.cpu.get_cpu_capability()}"
