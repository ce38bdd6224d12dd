"""Callbacks and `stop()`: what is called when, and that a stopped run goes on to the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import biject
from biject.errors import ConfigError
from biject.train.stopping import StopRequest
from biject.train.trainer import Trainer

PAIRS = [(torch.tensor([float(i)]), torch.tensor([2.0 * i])) for i in range(12)]


def step(model: nn.Module, batch: Any) -> torch.Tensor:
    points, heights = batch
    return (model(points) - heights).square().mean()


def trainer(**more: Any) -> Trainer:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 4), nn.Dropout(0.3), nn.Linear(4, 1))
    settings = {"lr": 1e-2, "batch_size": 4, "epochs": 4, "evaluate_every": 5}
    return Trainer(model, step=step, progress=False, **{**settings, **more})


class Heard(biject.Callback):
    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def on_start(self, start: Any) -> None:
        self.events.append(("start", start.step, start.total_steps, start.num_parameters, start.num_trained))

    def on_step(self, step: int, result: Any) -> None:
        self.events.append(("step", step, result.loss))

    def on_evaluation(self, step: int, metrics: Any) -> None:
        self.events.append(("evaluation", step, metrics["loss"]))

    def on_checkpoint(self, step: int, folder: Path) -> None:
        assert (folder / "trainer_state.json").is_file()
        self.events.append(("checkpoint", step))

    def on_end(self, result: Any) -> None:
        self.events.append(("end", result.steps))


def test_every_event_in_its_order(tmp_path: Path) -> None:
    heard = Heard()
    result = trainer(callbacks=[heard], checkpoint_every=6, load_best=False).fit(
        PAIRS, eval_dataset=PAIRS, out=tmp_path
    )
    assert heard.events[0] == ("start", 0, 12, 13, 13)
    assert heard.events[-1] == ("end", 12)
    assert [event[2] for event in heard.events if event[0] == "step"] == result.losses
    assert [event[1] for event in heard.events if event[0] == "evaluation"] == [5, 10, 12]
    assert {6, 12} <= {event[1] for event in heard.events if event[0] == "checkpoint"}
    kinds = [event[0] for event in heard.events if event[1] == 5]
    assert kinds[:2] == ["step", "evaluation"]


def test_an_object_with_one_method_is_a_callback_and_one_with_none_is_not() -> None:
    class OnlySteps:
        seen = 0

        def on_step(self, step: int, result: Any) -> None:
            self.seen = step

    only = OnlySteps()
    trainer(callbacks=[only]).fit(PAIRS)
    assert only.seen == 12
    with pytest.raises(ConfigError, match="int has none of the methods on_start"):
        trainer(callbacks=[3])


@pytest.mark.parametrize("at", [1, 3, 7])
def test_stopped_in_a_callback_and_resumed_to_the_same_bits(tmp_path: Path, at: int) -> None:
    whole = trainer()
    whole.fit(PAIRS, eval_dataset=PAIRS, out=tmp_path / "whole")

    class Stop(biject.Callback):
        def on_step(self, step: int, result: Any) -> None:
            if step == at:
                first.stop("enough for today")

    first = trainer(callbacks=[Stop()])
    half = first.fit(PAIRS, eval_dataset=PAIRS, out=tmp_path / "parts")
    assert half.interrupted
    assert half.steps == at
    assert first.stopping.reason == "enough for today"
    second = trainer()
    done = second.fit(PAIRS, eval_dataset=PAIRS, out=tmp_path / "parts", resume=True)
    assert not done.interrupted
    for mine, other in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_a_request_at_the_last_step_interrupts_nothing() -> None:
    stopping = StopRequest()

    class Late(biject.Callback):
        def on_step(self, step: int, result: Any) -> None:
            if step == 12:
                stopping.request("late")

    assert not trainer(callbacks=[Late()], stopping=stopping).fit(PAIRS).interrupted
    assert not stopping.can_wait


def test_a_request_is_over_with_its_run() -> None:
    class Once(biject.Callback):
        def on_step(self, step: int, result: Any) -> None:
            if step == 3 and not stopped:
                stopped.append(step)
                own.stop("enough for today")

    stopped: list[int] = []
    own = trainer(callbacks=[Once()])
    first = own.fit(PAIRS)
    assert (first.interrupted, first.steps) == (True, 3)
    assert own.stopping.reason == "enough for today"
    second = own.fit(PAIRS)
    assert (second.interrupted, second.steps) == (False, 12)
    assert own.stopping.reason is None


def test_a_request_before_a_run_is_that_runs() -> None:
    own = trainer()
    own.stop("before it began")
    assert own.fit(PAIRS).steps == 1
    own.stop("again")
    assert own.fit(PAIRS).steps == 1
    assert own.stopping.reason == "again"
    assert own.fit(PAIRS).steps == 12
