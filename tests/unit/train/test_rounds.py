"""Rounds of one rank: what they do to the run's schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR

from biject.train.rounds import Rounds, Window
from biject.train.session import Session
from biject.train.state import SavedState, TrainState
from biject.train.trainer import Trainer

Make = Callable[[], nn.Module]


@pytest.fixture
def group() -> Iterator[None]:
    """A group of one process."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def session_of(make: Make, data: Any, step: Any, **options: Any) -> Session:
    trainer = Trainer(make(), step=step, lr=1e-2, batch_size=5, sync="cadence", **options)
    session = trainer.setup(data, epochs=2)
    session.rounds = Rounds(session)  # alone a session has none
    return session


def two_milestones(optimizer: Optimizer, steps: int) -> LRScheduler:
    return MultiStepLR(optimizer, milestones=[8, 16], gamma=0.1)


@pytest.mark.parametrize("options", [{"schedule": two_milestones}, {"schedule": "linear"}])
def test_a_schedule_goes_with_the_runs_steps(
    options: dict[str, Any], make: Make, data: Any, step: Any, group: None
) -> None:
    session = session_of(make, data, step, **options)
    for window in session.windows():
        session.step(window)
        assert session.schedule.last_epoch == session.state.step
    assert session.state.step == 20
    if callable(options["schedule"]):
        assert session.optimizer.param_groups[0]["lr"] == 1e-2 * 0.1 * 0.1


@pytest.mark.parametrize("options", [{"schedule": two_milestones}, {"schedule": "linear"}])
def test_a_round_without_a_part_has_the_rate_of_its_step(
    options: dict[str, Any], make: Make, data: Any, step: Any, group: None
) -> None:
    """As of rank 0 where the others did all that was left."""
    session = session_of(make, data, step, **options)
    windows = session.windows()
    session.step(next(windows))
    due = float(session.optimizer.param_groups[0]["lr"])
    window = next(windows)
    assert session.rounds is not None
    empty = Window([], lambda number: [], given=window.given, by_count=True)
    assert session.rounds.step(empty).lr == due > 0


def test_a_schedule_for_another_number_of_ranks_too(make: Make, data: Any, step: Any, group: None) -> None:
    session = session_of(make, data, step, schedule=two_milestones)
    then = TrainState(sync={"ranks": 2, "mode": "cadence"})
    saved = SavedState(
        folder=Path("there"), state=then, config={}, optimizer={}, schedule=None, scaler=None,
        tensors={}, num_ranks=2, sealed=False, spread=False, shapes={},
    )  # fmt: skip
    before = session.schedule
    session._keep_steps(saved)
    assert session.schedule is not before
    assert session.engine.schedule is None
