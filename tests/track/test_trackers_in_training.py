"""Trackers while a model trains: those that refuse events, fail, hang or fall behind; and one by the API."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from biject.errors import BijectWarning
from biject.track import Background, Tracked
from biject.train.trainer import Trainer

EVENTS: list[dict[str, Any]] = [{"event": "step", "step": step, "loss": 1 / (1 + step)} for step in range(9)]


class Picky:
    """Takes even steps only."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.closed = False

    def on_event(self, event: Any) -> None:
        if event["step"] % 2:
            raise ValueError(f"step {event['step']} is odd")
        self.taken.append(event["step"])

    def close(self) -> None:
        self.closed = True


def give(tracker: Background, steps: range) -> None:
    for step in steps:
        tracker.on_event({"event": "step", "step": step})
    tracker.close()


def test_an_event_that_a_tracker_cannot_take_does_not_end_it() -> None:
    picky = Picky()
    tracker = Background("picky", lambda: picky)
    with pytest.warns(BijectWarning, match=r"picky lacks .*: ValueError: step 1 is odd; events") as told:
        give(tracker, range(6))
    assert (picky.taken, picky.closed, tracker.problem) == ([0, 2, 4], True, None)
    assert (len(told), tracker.refused) == (1, 3)


class Fails:
    def on_event(self, event: Any) -> None:
        raise SystemExit("no disk")

    def close(self) -> None:
        raise AssertionError


class Hangs:
    def __init__(self) -> None:
        self.free = threading.Event()

    def on_event(self, event: Any) -> None:
        self.free.wait(30)

    def close(self) -> None: ...


def loses() -> Any:
    raise OSError("no network")


PAIRS = [(torch.tensor([float(i)]), torch.tensor([2.0 * i])) for i in range(8)]


def fit(*callbacks: Any) -> list[float]:
    torch.manual_seed(0)
    trainer = Trainer(
        nn.Linear(1, 1),
        step=lambda model, batch: (model(batch[0]) - batch[1]).square().mean(),
        callbacks=callbacks,
        progress=False,
        lr=1e-2,
        batch_size=4,
        epochs=20,
    )
    return trainer.fit(PAIRS).losses


@pytest.mark.parametrize("make", [Fails, Hangs, loses])
def test_a_tracker_that_fails_or_hangs_neither_stops_nor_slows(make: Any) -> None:
    hanging = make() if make is Hangs else None
    tracker = Background("broken", (lambda: hanging) if hanging else make, patience=0.3)
    callback = Tracked.__new__(Tracked)
    callback._tracker = tracker
    began = time.monotonic()
    with pytest.warns(BijectWarning, match=r"broken is left out: .*; events\.jsonl has everything"):
        assert fit(callback) == fit()
    assert time.monotonic() - began < 5
    if hanging:
        hanging.free.set()


def test_a_tracker_that_is_far_behind_loses_events_and_says_so() -> None:
    hanging = Hangs()
    tracker = Background("slow", lambda: hanging, patience=5)
    tracker._queue.maxsize = 3
    for event in EVENTS:
        tracker.on_event(event)
    hanging.free.set()
    with pytest.warns(BijectWarning, match=r"slow was too slow: it lacks \d events"):
        tracker.close()
    assert tracker.lost >= len(EVENTS) - 5


def test_by_the_api(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    losses = fit(Tracked("tensorboard", tmp_path))
    read = EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    assert [event.value for event in read.Scalars("train/loss")] == [
        float(np.float32(loss)) for loss in losses
    ]
