"""What sharing by speed gives: the arithmetic, and which devices take part."""

from __future__ import annotations

import pytest
import torch

from biject.runs import devices
from biject.runs.devices import DeviceSpeed, measure_devices, share


def speed(name: str, seconds: float | None) -> DeviceSpeed:
    rate = None if seconds is None else 100 / seconds
    return DeviceSpeed(name=name, what="", free_bytes=None, step_seconds=seconds, tokens_per_second=rate)


def test_two_unequal_gpus_and_a_cpu() -> None:
    found = share([speed("cpu", 10.0), speed("cuda:0", 0.1), speed("cuda:1", 0.3)], exchange_bytes=400)
    assert found is not None
    assert found.devices == ("cuda:0", "cuda:1")
    assert found.shares == pytest.approx((0.75, 0.25))
    assert found.over_fastest == pytest.approx(4 / 3)
    assert found.over_equal == pytest.approx(2.0)
    together = 1 / (1 / 0.1 + 1 / 0.3)
    assert found.worth_below_seconds == pytest.approx(0.1 - together)
    assert found.exchange_bytes == 400


def test_a_device_that_the_run_does_not_fit_takes_no_part() -> None:
    assert share([speed("cpu", 10.0), speed("cuda:0", 0.1), speed("cuda:1", None)], exchange_bytes=1) is None
    assert share([speed("cpu", 10.0)], exchange_bytes=1) is None


def test_every_device_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "inventory", lambda: [torch.device("cpu"), torch.device("cpu")])
    asked: list[torch.device] = []

    def step(device: torch.device) -> float:
        asked.append(device)
        return 0.5 * len(asked)

    found = measure_devices(step, tokens=1000, exchange_bytes=8)
    assert len(asked) == 2
    assert [one.tokens_per_second for one in found.found] == [2000, 1000]
    assert found.sharing is not None
    assert found.sharing.shares == pytest.approx((2 / 3, 1 / 3))
    assert found.to_json()["sharing"]["over_fastest"] == pytest.approx(1.5)


def test_the_inventory_begins_with_the_cpu() -> None:
    assert devices.inventory()[0] == torch.device("cpu")
    assert len(devices.inventory()) == 1 + torch.cuda.device_count()
