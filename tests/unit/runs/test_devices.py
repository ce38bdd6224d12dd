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


def test_a_cpu_helps_a_gpu_where_the_exchange_takes_less_than_it_saves() -> None:
    found = [speed("cpu", 0.4), speed("cuda:0", 0.1)]
    cheap, dear = (devices.helps(found, exchange_seconds=seconds) for seconds in (0.01, 0.03))
    assert cheap is not None
    assert dear is not None
    assert cheap.step_seconds == pytest.approx(0.08 + 0.01)
    assert (cheap.pays, dear.pays) == (True, False)
    assert cheap.without_seconds == 0.1
    sharing = share(found, exchange_bytes=4, with_cpu=True)
    assert sharing is not None
    assert sharing.devices == ("cuda:0", "cpu")  # the processes' order: GPUs first
    assert sharing.shares == pytest.approx((0.8, 0.2))
    assert share(found, exchange_bytes=4) is None
    assert devices.helps([speed("cpu", 0.4), speed("cuda:0", None)], exchange_seconds=0) is None
    assert devices.helps([speed("cpu", 0.4)], exchange_seconds=0) is None


@pytest.mark.parametrize(("cpu", "pays"), [(0.2, True), (5000.0, False)])
def test_the_probe_decides_by_what_it_measured(
    cpu: float, pays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second CPU in the place of a GPU: the exchange is timed for real, speeds are given."""

    class Fake:
        """Is a CPU, and says that it is a GPU."""

        def __str__(self) -> str:
            return "cuda:0"

    monkeypatch.setattr(devices, "inventory", lambda: [torch.device("cpu"), Fake()])
    monkeypatch.setattr(devices, "available_bytes", lambda device: None)
    monkeypatch.setattr(devices, "_what", str)
    timed: list[int] = []

    def seconds(given: list[object], size: int) -> float:
        timed.append(size)
        return plain([torch.device("cpu")], size)

    plain = devices.exchange_seconds
    monkeypatch.setattr(devices, "exchange_seconds", seconds)
    times = {"cpu": cpu, "cuda:0": 0.5}
    found = measure_devices(lambda device: times[str(device)], tokens=10, exchange_bytes=1 << 20)
    assert timed == [1 << 20]
    assert found.helper is not None
    assert 0 < found.helper.exchange_seconds < 0.2
    assert found.helper.pays is pays
    assert (found.sharing is not None) is pays


def test_the_inventory_begins_with_the_cpu() -> None:
    assert devices.inventory()[0] == torch.device("cpu")
    assert len(devices.inventory()) == 1 + torch.cuda.device_count()
