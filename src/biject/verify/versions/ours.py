"""Our side of a cell: read what a release wrote, write it again, compute on the same inputs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from biject.checkpoint.source import open_source
from biject.events import Notice, Progress, listening
from biject.model import Model
from biject.nn.addresses import align
from biject.pretrained import load
from biject.verify.inputs import Case, probe_cases, training_case
from biject.verify.levels.gradients import backward
from biject.verify.outputs import flatten
from biject.verify.subject import resolved_by_tensors

TRAINING = "training"


@dataclass(frozen=True, kw_only=True)
class Computed:
    """What was computed from a folder: tensors by `case|output|index`, and gradients by names of files."""

    outputs: dict[str, Tensor]
    gradients: dict[str, Tensor]
    real: dict[str, Tensor] = field(default_factory=dict)
    """Where a case's tokens are no padding."""


def export(source: Path, folder: Path) -> list[str]:
    """Write what was read of a folder; the notices that reading it gave (unknown names, unknown keys)."""
    with _notices() as found:
        model = load(source, head="auto")
        model.save_pretrained(folder)
    return found


def write_inputs(folder: Path, head: str, path: Path) -> dict[str, Case]:
    """The calls of a folder's model, also as a file for the other side."""
    config = open_source(folder).config
    cases = {case.name: case for case in probe_cases(config)} | {TRAINING: training_case(config, head)}
    tensors = {
        f"{name}|{argument}": value.clone().contiguous()
        for name, case in cases.items()
        for argument, value in case.inputs.items()
    }
    save_file(tensors, path)
    return cases


def compute(folder: Path, cases: dict[str, Case]) -> Computed:
    """Outputs for each case and the gradients of one backward pass, without and with dropout."""
    legacy = resolved_by_tensors(open_source(folder)).get("legacy")
    with _notices():
        model = load(folder, dtype=torch.float32, layout="padded", legacy=legacy)
    align(model)
    outputs: dict[str, Tensor] = {}
    for name, case in cases.items():
        if name != TRAINING:
            with torch.no_grad():
                found = flatten(model(**case.inputs, output_hidden_states=True))
            outputs |= {
                f"{name}|{key}|{i}": t for key, tensors in found.items() for i, t in enumerate(tensors)
            }
    gradients: dict[str, Tensor] = {}
    inputs = dict(cases[TRAINING].inputs)
    mask = inputs.get("attention_mask")
    for dropout in (False, True):
        label = "dropout on" if dropout else "dropout off"
        loss, found_gradients = backward(
            model, inputs, training=dropout, real=None if mask is None else mask.bool()
        )
        outputs[f"{label}|loss"] = loss
        gradients |= {f"{label}|{name}": g for name, g in _by_disk(model, found_gradients)}
    masks = {
        name: case.inputs["attention_mask"].bool()
        for name, case in cases.items()
        if "attention_mask" in case.inputs
    }
    return Computed(outputs=outputs, gradients=gradients, real=masks)


def _by_disk(model: Model, gradients: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Gradients by the names of a file, a twin's by its own; NaN where a parameter has none."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for binding in model.provenance.plan.bindings:
        found = gradients[binding.memory]
        if found is None:
            found = torch.full_like(parameters[binding.memory].detach(), math.nan)
        yield from ((disk, found) for disk in binding.disk)


@contextmanager
def _notices() -> Iterator[list[str]]:
    """Collect notices in place of showing them."""
    found: list[str] = []

    class Listener:
        def notice(self, event: Notice) -> None:
            found.append(f"{event.code}: {event.message}")

        def progress(self, event: Progress) -> None:
            """Not shown."""

    with listening(Listener()):
        yield found
