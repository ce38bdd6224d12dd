"""A checkpoint's state that cannot be: one clear error, nothing hangs, nothing is half restored."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from biject.checkpoint.run_files import JSON_FILE, TENSOR_FILE
from biject.errors import CheckpointError
from biject.train.state import read_state
from biject.train.trainer import Trainer

pytestmark = pytest.mark.attack("checkpoints of a run, damaged")
DATA = [(torch.ones(2), torch.zeros(())) for _ in range(8)]


def step(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return (model(batch[0]).squeeze(-1) - batch[1]).square().mean()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("state")
    trainer = Trainer(nn.Linear(2, 1), step=step, checkpoint_every=2)
    trainer.fit(DATA, batch_size=4, max_steps=4, out=out)
    return out / "checkpoints" / "step-000002"


@pytest.fixture
def checkpoint(good: Path, tmp_path: Path) -> Path:
    return shutil.copytree(good, tmp_path / good.name)


def state(**values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / JSON_FILE
        found = json.loads(path.read_text())
        path.write_text(json.dumps({**found, "state": {**found["state"], **values}}))

    return change


def nested(folder: Path) -> None:
    (folder / JSON_FILE).write_text("[" * 200_000)


def pipe(folder: Path) -> None:
    (folder / JSON_FILE).unlink()
    os.mkfifo(folder / JSON_FILE)


def tensor_pipe(folder: Path) -> None:
    (folder / TENSOR_FILE).unlink()
    os.mkfifo(folder / TENSOR_FILE)


CHANGES = {
    "negative": state(step=-5),
    "huge": state(step=10**9 * 10),
    "text": state(step="ten"),
    "fraction": state(step=2.5),
    "truth": state(step=True),
    "none": state(step=None),
    "another step": state(step=4),
    "negative epoch": state(epoch=-1),
    "epoch as text": state(epoch="one"),
    "negative place": state(step_in_epoch=-1),
    "unknown key": state(spice=1),
    "nested": nested,
    "pipe": pipe,
    "tensors as a pipe": tensor_pipe,
}


@pytest.mark.parametrize("name", CHANGES)
def test_damaged_states_are_one_error(name: str, checkpoint: Path) -> None:
    assert read_state(checkpoint).state.step == 2
    CHANGES[name](checkpoint)
    with pytest.raises(CheckpointError):
        read_state(checkpoint)


def test_resume_refuses_it_and_keeps_the_model(checkpoint: Path) -> None:
    state(step=-5)(checkpoint)
    model = nn.Linear(2, 1)
    before = model.weight.clone()
    with pytest.raises(CheckpointError):
        Trainer(model, step=step).fit(DATA, batch_size=4, max_steps=4, resume=checkpoint)
    assert torch.equal(model.weight, before)
