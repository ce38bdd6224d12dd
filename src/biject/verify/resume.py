"""`verify_resume`: a run that was interrupted and gone on with ends where an uninterrupted one does.

The recipe is trained for N steps, and again until it is thrown out one step after the checkpoint at N/2; a
third trainer, made anew, goes on from there. Compared are sha256 of the checkpoints at step N: every weight,
every moment of the optimizer, every random generator, and where the run stands.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from biject.checkpoint.adapter import is_adapter, read_adapter
from biject.checkpoint.bytes import tensor_bytes
from biject.checkpoint.reader import Reader
from biject.checkpoint.source import open_source
from biject.errors import InputError
from biject.events import progress
from biject.train.checkpoints import folder_name
from biject.train.generators import kept
from biject.train.state import read_state
from biject.train.trainer import Trainer
from biject.verify.machine import environment
from biject.verify.report import Check, LevelResult, Report, level_result

LEVEL = "resume"


@dataclass(frozen=True, kw_only=True)
class Start:
    """A run before its first step; making one again has to give the same."""

    trainer: Trainer
    dataset: Sequence[Any] | Iterable[Any]
    eval_dataset: Sequence[Any] | None = None


class _StoppedError(Exception):
    """Thrown into a run."""


def verify_resume(
    make: Callable[[], Start], *, steps: int = 10, folder: str | Path | None = None, name: str = "the run"
) -> Report:
    """Train N steps at once, and N/2 and the rest from a checkpoint; compare what came of it, bit for bit.

    Args:
        make: Gives a fresh model, trainer and data each time.
        steps: N, an even number.
        folder: Keeps both runs' checkpoints; else they are temporary.
        name: Of the run, for the report.

    Raises:
        InputError: `steps` is odd or too small, or `folder` exists.
        BijectError: The run cannot be trained at all.
    """
    if steps < 2 or steps % 2:
        raise InputError(f"The steps to compare should be an even number from 2 on, found {steps}.")
    if folder is not None and os.path.lexists(folder):
        raise InputError(f"{folder} exists already; the checkpoints to keep need a new folder.")
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="biject-resume-") as temporary, kept():
        checks = _compare(make, steps, Path(temporary if folder is None else folder))
    result = level_result(LEVEL, checks, seconds=time.perf_counter() - started)
    return Report(
        folder=name,
        source=None,
        levels=(_explained(result, steps // 2),),
        environment=environment(),
        not_checked=(f"steps after the first {steps}, and other devices than the one it ran on",),
    )


def _compare(make: Callable[[], Start], steps: int, folder: Path) -> list[Check]:
    half = steps // 2
    whole = _fit(make(), folder / "whole", steps)
    progress("verify-resume", 1, 3, unit="runs")
    _fit(make(), folder / "stopped", steps, stop_after=half + 1)
    progress("verify-resume", 2, 3, unit="runs")
    _ = torch.rand(7), random.random(), np.random.rand()  # what was drawn in between must not matter
    later = _fit(make(), folder / "stopped", steps, resume=True)
    progress("verify-resume", 3, 3, unit="runs")
    parts = [_digests(folder / run / "checkpoints", half) for run in ("whole", "stopped")]
    checks = [_check(f"step {half} {part}", *(found[part] for found in parts)) for part in parts[0]]
    equal = whole[half:] == later
    detail = f"equal, the last {later[-1]:.6g}" if equal else f"differ: {whole[half:]} and {later}"
    checks.append(Check(name=f"losses of steps {half + 1} to {steps}", passed=equal, detail=detail))
    parts = [_digests(folder / run / "checkpoints", steps) for run in ("whole", "stopped")]
    return checks + [_check(f"step {steps} {part}", *(found[part] for found in parts)) for part in parts[0]]


def _fit(
    start: Start, out: Path, steps: int, *, stop_after: int | None = None, resume: bool = False
) -> list[float]:
    """The losses of one run, or of the part until it is thrown out."""
    trainer, callback = start.trainer, start.trainer.on_step
    trainer.config = replace(trainer.config, checkpoint_every=steps // 2, patience=0, keep=steps)

    def on_step(step: int, done: Any) -> None:
        if callback is not None:
            callback(step, done)
        if step == stop_after:
            raise _StoppedError

    trainer.on_step = on_step
    evaluation = start.eval_dataset
    try:
        found = trainer.fit(start.dataset, max_steps=steps, eval_dataset=evaluation, out=out, resume=resume)
    except _StoppedError:
        return []
    return found.losses


def _digests(folder: Path, step: int) -> dict[str, tuple[str, str]]:
    """For each part of a checkpoint its size, and the sha256 of that."""
    path = folder / folder_name(step)
    state = read_state(path)
    kinds: dict[str, dict[str, Tensor]] = {"optimizer": {}, "generator": {}}
    for name, tensor in state.tensors.items():
        kinds.setdefault(name.partition(".")[0], {})[name] = tensor
    place = {"state": asdict(state.state), "schedule": state.schedule, "groups": state.optimizer["groups"]}
    text = json.dumps(place, sort_keys=True, default=str).encode()
    return {
        "weights": _digest(_weights(path)),
        "optimizer state": _digest(kinds["optimizer"]),
        "random generators": _digest(kinds["generator"]),
        "position, schedule and evaluations": (f"{len(text)} bytes", sha256(text).hexdigest()),
    }


def _weights(checkpoint: Path) -> Mapping[str, Tensor]:
    """The model's, or those of the adapter that is trained."""
    if is_adapter(checkpoint):
        return read_adapter(checkpoint).tensors()
    source = open_source(checkpoint)
    reader = Reader(source)
    return {name: reader.tensor(name) for name in source.tensors}


def _digest(tensors: Mapping[str, Tensor]) -> tuple[str, str]:
    whole = sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        whole.update(tensor_bytes(tensor))
    return f"{len(tensors)} tensors", whole.hexdigest()


def _check(name: str, whole: tuple[str, str], stopped: tuple[str, str]) -> Check:
    (amount, ours), (_, theirs) = whole, stopped
    passed = ours == theirs
    detail = f"sha256 {ours[:16]}…" if passed else f"sha256 {ours[:16]}… at once, {theirs[:16]}… otherwise"
    return Check(name=f"{name} ({amount})", passed=passed, detail=detail)


def _explained(result: LevelResult, half: int) -> LevelResult:
    """Where both runs part before the interruption, resuming is not to blame."""
    if any(not check.passed and check.name.startswith(f"step {half} ") for check in result.checks):
        reason = f"two runs of the same recipe already differ at step {half}, before any interruption"
        return replace(result, reason=f"{reason}: the run itself does not repeat")
    return result
