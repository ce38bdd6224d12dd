"""Level `variants`: the same tensors under settings that the checkpoint does not use, but its users may.

A checkpoint in float32 without dropout shows neither a dropout in the wrong place nor a loss that is summed
in the wrong dtype. So every dropout that HF's config class or the family's table knows is given a rate of its
own, and the model is computed in each of the other floating-point dtypes; both sides must still agree bit
for bit.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import torch
from torch import nn

from biject.checkpoint.source import CONFIG
from biject.verify.hf import HFModel
from biject.verify.inputs import WITHOUT_LOSS, Case, Inputs, training_case
from biject.verify.levels.forward import compare, without_nan
from biject.verify.levels.gradients import backward, compare_gradients
from biject.verify.report import Check
from biject.verify.subject import Subject, inputs_for

DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
_FIRST_RATE, _NEXT_RATE = 0.07, 0.04
"""Rates differ from key to key, so that two that are exchanged show."""


def variants(subject: Subject) -> list[Check]:
    """Gradients with every dropout on; forward, loss and gradients in every dtype but the file's."""
    checks = dropouts(subject)
    for dtype in DTYPES:
        if dtype is not subject.dtype:
            checks += in_dtype(subject, dtype)
    return checks


def dropouts(subject: Subject) -> list[Check]:
    """One backward with all dropouts on, from one seed; it must differ from the one without."""
    rates = dropout_rates(subject)
    if not rates:
        return [
            Check(name="dropouts", passed=True, detail="the config class knows none", case="every dropout")
        ]
    with tempfile.TemporaryDirectory(prefix="biject-verify-") as temporary:
        other = Subject(_with_config(subject, rates, Path(temporary)))
        other.dtype = subject.dtype
        theirs = other.theirs()
        inputs = inputs_for(theirs.model, training_case(other.config, other.head))
        case = "every dropout set, same seed"
        ours_on, theirs_on = (
            backward(model, inputs, training=True, missing=missing)
            for model, missing in ((other.ours, ()), (theirs.model, theirs.missing))
        )
        still, _ = backward(theirs.model, inputs, training=False, missing=theirs.missing)
        idle = torch.equal(still, theirs_on[0])
        words = f"{', '.join(f'{key} {rate}' for key, rate in rates.items())}"
        drawn = Check(
            name="dropouts", passed=not idle, case=case, detail=f"{words}: no effect on HF" if idle else words
        )
        return [drawn, compare_gradients(other, theirs.model, ours_on[1], theirs_on[1], case=case)]


def dropout_rates(subject: Subject) -> dict[str, float]:
    """A rate for every key of the config that is one of a dropout, by HF's class and by our table."""
    from transformers import AutoConfig

    known = AutoConfig.for_model(subject.family.model_type)
    keys = {*known.to_dict(), *subject.family.config.known}
    found = sorted(key for key in keys if "drop" in key and "layerdrop" not in key)
    return {key: round(_FIRST_RATE + _NEXT_RATE * index, 2) for index, key in enumerate(found)}


def _with_config(subject: Subject, values: dict[str, float], folder: Path) -> Path:
    """The export's tensors under its config.json with other values."""
    for name in (*subject.export.weight_files, subject.export.index_file):
        if name is not None:
            target = (subject.folder / name).resolve()
            try:
                os.link(target, folder / name)
            except OSError:  # another file system
                shutil.copyfile(target, folder / name)
    text = json.dumps({**subject.config, **values})
    (folder / CONFIG).write_text(text, encoding="utf-8")
    return folder


def in_dtype(subject: Subject, dtype: torch.dtype) -> list[Check]:
    """A padded batch, the loss and one backward, computed in this dtype by both sides, where HF can."""
    other = Subject(subject.folder)
    other.dtype = dtype
    theirs = other.theirs()
    name = str(dtype).removeprefix("torch.")
    labelled = training_case(other.config, other.head).inputs
    padded = next(case for case in other.cases if case.name == "right-padded")
    refusal = _refusal(theirs.model, padded)
    if refusal is not None:
        detail = f"nothing to compare with: transformers cannot compute it ({refusal})"
        return [Check(name="dtype", passed=True, detail=detail, case=name)]
    plain = without_nan(other, theirs, Case(name=f"{padded.name}, {name}", inputs=padded.inputs))
    checks = compare(other, theirs, plain)
    trained = without_nan(other, theirs, Case(name=f"labels, {name}", inputs=labelled))
    if other.head not in WITHOUT_LOSS:
        checks += compare(other, theirs, trained)
    return [*checks, _gradients(other, theirs, trained.inputs, name)]


def _refusal(model: nn.Module, case: Case) -> str | None:
    """Why HF's own model fails in its dtype: `grouped_mm` of experts takes no float64."""
    try:
        with torch.no_grad():
            model(**inputs_for(model, case))
    except RuntimeError as error:
        return str(error).partition("\n")[0]
    return None


def _gradients(subject: Subject, theirs: HFModel, labelled: Inputs, name: str) -> Check:
    inputs = inputs_for(theirs.model, Case(name=name, inputs=labelled))
    _, ours = backward(subject.ours, inputs, training=False)
    _, other = backward(theirs.model, inputs, training=False, missing=theirs.missing)
    return compare_gradients(subject, theirs.model, ours, other, case=f"dropout off, {name}")
