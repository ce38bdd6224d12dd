"""`verify_resume` passes an exact run and catches what a checkpoint does not hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from biject.errors import InputError
from biject.train.trainer import Trainer
from biject.verify.resume import Start, verify_resume

DATA = [(torch.full((4,), index / 20), index % 3) for index in range(20)]


def step(model: nn.Module, batch: Any) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def start(**options: Any) -> Start:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 3))
    trainer = Trainer(model, **{"step": step, "lr": 1e-2, "batch_size": 4, **options})
    return Start(trainer=trainer, dataset=DATA, eval_dataset=DATA[:5])


def test_an_exact_run_passes(tmp_path: Path) -> None:
    report = verify_resume(start, steps=8, folder=tmp_path / "kept", name="an MLP")
    assert report.passed, report.lines()
    assert "VERDICT PASS an MLP" in report.verdict()
    assert [check.name for check in report.levels[0].checks][-4:] == [
        "step 8 weights (4 tensors)",
        "step 8 optimizer state (12 tensors)",
        "step 8 random generators (3 tensors)",
        report.levels[0].checks[-1].name,
    ]
    names = {path.name for path in (tmp_path / "kept").rglob("step-*")}
    assert {"step-000004", "step-000008"} <= names


def test_what_no_checkpoint_holds_is_caught() -> None:
    """Noise that a step keeps count of by itself starts again with the new process."""

    def forgetful() -> Start:
        calls = 0

        def own(model: nn.Module, batch: Any) -> Tensor:
            nonlocal calls
            calls += model.training
            return step(model, batch) * (1 + calls / 10)

        return start(step=own)

    report = verify_resume(forgetful, steps=4)
    assert not report.passed
    failed = {check.name.partition(" (")[0] for check in report.levels[0].failures}
    assert {"step 4 weights", "step 4 optimizer state", "losses of steps 3 to 4"} <= failed
    assert report.levels[0].reason is None


def test_a_run_that_does_not_repeat_is_told_apart() -> None:
    rates: Iterator[float] = iter([1e-2, 2e-2, 2e-2])
    report = verify_resume(lambda: start(lr=next(rates)), steps=2)
    assert not report.passed
    assert "does not repeat" in str(report.levels[0].reason)


def test_arguments(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="even number"):
        verify_resume(start, steps=3)
    with pytest.raises(InputError, match="exists already"):
        verify_resume(start, steps=2, folder=tmp_path)
