"""Progress: a line that moves on a terminal, one now and then in a log, none where somebody listens."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest
import torch
from torch import nn

import biject.progress
from biject.events import Notice, Progress, listening, notice, without_progress
from biject.progress import ProgressLines, shown_progress, words
from biject.train.trainer import Trainer

DATA = [(torch.ones(2), torch.zeros(())) for _ in range(8)]


def step(model: nn.Module, batch: Any) -> torch.Tensor:
    return (model(batch[0]).squeeze(-1) - batch[1]).square().mean()


class Stream(io.StringIO):
    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


def fit(monkeypatch: pytest.MonkeyPatch, *, terminal: bool, every: float = 0.0, **options: Any) -> str:
    stream = Stream(terminal=terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(biject.progress, "LOG_SECONDS", every)
    monkeypatch.setattr(biject.progress, "LIVE_SECONDS", every)
    Trainer(nn.Linear(2, 1), step=step, **options).fit(DATA, batch_size=2, epochs=1)
    return stream.getvalue()


def test_a_line_for_each_step_in_a_log(monkeypatch) -> None:
    lines = fit(monkeypatch, terminal=False).splitlines()
    assert [line.split(",")[0] for line in lines] == [f"training {i}/4 steps" for i in (1, 2, 3, 4)]
    assert all("loss " in line for line in lines)


def test_now_and_then(monkeypatch) -> None:
    assert fit(monkeypatch, terminal=False, every=3600) == ""


def test_one_line_that_moves_and_goes(monkeypatch) -> None:
    text = fit(monkeypatch, terminal=True)
    assert "\n" not in text
    assert "\rtraining 4/4 steps" in text
    assert text.endswith(" \r")


def test_switched_off(monkeypatch) -> None:
    assert fit(monkeypatch, terminal=True, progress=False) == ""


def test_a_listener_stays_the_only_one(monkeypatch) -> None:
    class Own:
        def __init__(self) -> None:
            self.found: list[Any] = []

        def progress(self, event: Progress) -> None:
            self.found.append(event)

        def notice(self, event: Notice) -> None:
            self.found.append(event)

    own = Own()
    with listening(own):
        assert fit(monkeypatch, terminal=True) == ""
        assert len(own.found) == 4
        with without_progress():
            fit(monkeypatch, terminal=True)
            assert len(own.found) == 4
            notice("code", "heard")
    assert own.found[-1] == Notice(code="code", message="heard")


def test_notices_stay_warnings(monkeypatch) -> None:
    monkeypatch.setattr(sys, "stderr", Stream(terminal=True))
    with pytest.warns(UserWarning, match="by the way"), shown_progress(True):
        notice("code", "by the way")


def test_words() -> None:
    event = Progress(label="training", done=25, total=100, unit="steps", detail="loss 1.0")
    assert words(event, seconds=50) == "training 25/100 steps, 2:30 left, loss 1.0"
    assert words(event, seconds=5000) == "training 25/100 steps, 4:10:00 left, loss 1.0"
    assert words(Progress(label="reading", done=3, total=None, unit="rows"), seconds=9) == "reading 3 rows"
    assert ProgressLines(Stream(terminal=False)).live is False
