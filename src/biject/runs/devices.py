"""The devices of this machine, how fast each trains a run's batches, and what sharing by speed would give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from biject.runs.machine import available_bytes


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
class Devices:
    """All of them; `sharing` is None where one alone can train the run."""

    found: tuple[DeviceSpeed, ...]
    sharing: Sharing | None

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
    return Devices(found=tuple(found), sharing=share(found, exchange_bytes=exchange_bytes))


def share(found: Sequence[DeviceSpeed], *, exchange_bytes: int) -> Sharing | None:
    """By speed, among the GPUs, or whatever there is of one kind; a run's processes are all of one kind."""
    usable = [one for one in found if one.step_seconds is not None]
    gpus = [one for one in usable if one.name != "cpu"]
    chosen = gpus or usable
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
