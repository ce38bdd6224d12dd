"""Processes with a GPU and without in one run: which device each has, and what they exchange over.

There is no GPU here: an inventory says that there is one, tensors are on the CPU all the same.
"""

from __future__ import annotations

import threading

import pytest
import torch
import torch.distributed as dist

from biject.train import ranks

GPUS = [torch.device("cuda", 0), torch.device("cuda", 1)]


@pytest.mark.parametrize(
    ("local", "gpus", "expected"),
    [
        ("0", GPUS, "cuda:0"),
        ("1", GPUS, "cuda:1"),
        ("2", GPUS, "cpu"),
        ("0", [], "cpu"),
        ("1", GPUS[:1], "cpu"),
    ],
)
def test_a_process_beyond_the_gpus_has_the_cpu(
    local: str, gpus: list[torch.device], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks, "count", lambda: 3)
    monkeypatch.setattr(ranks, "accelerators", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setenv("LOCAL_RANK", local)
    assert str(ranks.own_device(torch.device("cuda"))) == expected
    assert str(ranks.own_device(torch.device("cpu"))) == "cpu"  # wanted so by the user


@pytest.mark.parametrize(
    ("gpus", "expected"),
    [([1, 1], "cpu:gloo,cuda:nccl"), ([1, 0], "cpu:gloo,cuda:gloo"), ([0, 1], "cpu:gloo,cuda:gloo"),
     ([0, 0], "gloo")],
)  # fmt: skip
def test_all_processes_agree_on_what_they_exchange_over(
    gpus: list[int], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = threading.local()
    monkeypatch.setattr(ranks, "accelerators", lambda: GPUS[: own.gpus])
    monkeypatch.setattr(ranks, "_local_rank", lambda: 0)
    store, found = dist.HashStore(), dict[int, str]()

    def process(rank: int) -> None:
        own.gpus = gpus[rank]
        found[rank] = ranks._backend(store, len(gpus))

    threads = [threading.Thread(target=process, args=(rank,)) for rank in range(len(gpus))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == {0: expected, 1: expected}
