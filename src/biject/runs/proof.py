"""The proof at a run's end: HF loads the exported model, and agrees with the one in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from biject.model import Model
from biject.verify import verify_export
from biject.verify.hf import quiet
from biject.verify.outputs import compare_outputs, run
from biject.verify.report import Check, LevelResult, Report, level_result
from biject.verify.subject import Subject

NUM_SAMPLES = 256
"""That both sides compute, at most."""

_BATCH = 32
_LABELS = ("labels", "start_positions", "end_positions")


def prove(
    model: Model,
    folder: Path,
    samples: Sequence[Mapping[str, Any]],
    collate: Callable[[Sequence[Mapping[str, Any]]], Mapping[str, Tensor]],
) -> Report:
    """Run the levels `reload` and `trained`.

    Args:
        model: The fine-tuned model, on the CPU, in the dtype of the export.
        folder: Its export.
        samples: What to compute on both sides.
        collate: Makes batches of them.
    """
    report = verify_export(folder, source=model.source.folder, levels=["reload"])
    started = time.perf_counter()
    try:
        checks = trained(model, folder, samples, collate)
        level = level_result("trained", checks, seconds=time.perf_counter() - started)
    except Exception as error:  # a level that breaks has failed, and the report says how
        reason = f"{type(error).__name__}: {error}"
        level = LevelResult(name="trained", status="fail", reason=reason)
    return replace(report, levels=(*report.levels, level))


def trained(
    model: Model,
    folder: Path,
    samples: Sequence[Mapping[str, Any]],
    collate: Callable[[Sequence[Mapping[str, Any]]], Mapping[str, Tensor]],
) -> list[Check]:
    """HF's outputs from the export against those of the model in memory, batch by batch."""
    with quiet():
        theirs = Subject(folder).theirs().model
    model.eval()
    count = min(len(samples), NUM_SAMPLES)
    worst: dict[str, Check] = {}
    for at in range(0, count, _BATCH):
        whole = collate([samples[i] for i in range(at, min(at + _BATCH, count))])
        batch = {name: value for name, value in whole.items() if name not in _LABELS}
        for check in compare_outputs(run(model, batch), run(theirs, batch), case=""):
            name = check.name.partition(" ")[0]
            if name not in worst or _badness(check) > _badness(worst[name]):
                worst[name] = check
    of = f"{count} of {len(samples)} samples" if count < len(samples) else f"{count} samples"
    return [replace(check, name=f"{name}, {of}:") for name, check in worst.items()]


def _badness(check: Check) -> tuple[bool, float]:
    return not check.passed, check.max_abs_diff or 0.0


def cast_like(model: Model, dtype: torch.dtype) -> Model:
    """The model as the export holds it: on the CPU, in its dtype."""
    return model.to(device="cpu", dtype=dtype)
