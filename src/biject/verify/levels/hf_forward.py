"""Level `hf-forward`: HF computes the same numbers from the source and from the export."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from biject.verify.compare import first_difference, pairs_by_name, with_place
from biject.verify.hf import HFModel
from biject.verify.inputs import Case, limits
from biject.verify.levels.changes import declared_here, same_head
from biject.verify.outputs import compare_outputs, run, without_random
from biject.verify.report import Check, NothingToCompare
from biject.verify.subject import Subject, inputs_for, widest_dtype

Outputs = Mapping[str, tuple[Tensor, ...]]


def hf_forward(subject: Subject) -> list[Check]:
    """Max abs diff = 0 in every output and every hidden layer, or the first layer that differs."""
    if declared_here(subject, "merged"):
        raise NothingToCompare("an adapter was merged into the export, as declared: its outputs are others")
    same = _same_outputs(subject)
    before, after, missing = _models(subject) if same else _bases(subject)
    checks = []
    for case in _cases(subject):
        inputs = inputs_for(after, case)
        outputs = [
            without_random(run(model, inputs_for(model, case), output_hidden_states=True), missing)
            for model in (after, before)
        ]
        if not same:
            outputs = _shared(*outputs)
        found = compare_outputs(*outputs, case=case.name)
        checks += with_place(found, functools.partial(_where, after, before, inputs))
    checks += [*_order(subject), *_distance(subject)]
    subject.release_source()
    return checks


def _same_outputs(subject: Subject) -> bool:
    """Whether both have the same head, with as many rows: else what their base models compute is compared."""
    return same_head(subject) and not declared_here(subject, "resized")


def _cases(subject: Subject) -> Sequence[Case]:
    """The calls; after a declared change of the vocabulary with ids that both have."""
    if not declared_here(subject, "resized"):
        return subject.cases
    least = min(limits(config).vocab_size for config in (subject.source_config, subject.config))
    return [
        replace(case, inputs={**case.inputs, "input_ids": case.inputs["input_ids"] % least})
        if "input_ids" in case.inputs
        else case
        for case in subject.cases
    ]


def _order(subject: Subject) -> list[Check]:
    """Of a source whose `.bin` holds matrices transposed: what that alone changes in HF's outputs."""
    class_name = subject.named_class if _same_outputs(subject) else subject.source_class
    before = subject.their_source(class_name=class_name)
    if not before.reordered:
        return []
    stored = subject.their_source_as_stored(class_name=class_name)
    far = _apart(subject, stored, before)
    detail = (
        f"{len(before.reordered)} matrices of the source lie transposed in its .bin; compared in the order "
        "in which safetensors stores them. That order alone changes HF's outputs by at most "
        f"{max(far.values()):.2g}"
    )
    return [Check(name="memory order", passed=True, detail=detail)]


def _distance(subject: Subject) -> list[Check]:
    """After a cast: how far the export's outputs are from those of the source in its own dtype."""
    assert subject.source is not None
    own = widest_dtype(subject.source)
    if own == subject.dtype:
        return []
    if not _same_outputs(subject):
        detail = (
            f"the source was cast to {_name(subject.dtype)}; after a change of head or vocabulary no outputs "
            "are shared"
        )
        return [Check(name="cast", passed=True, detail=detail)]
    before, after = subject.their_source(class_name=subject.hf_class, dtype=own), subject.theirs()
    far = _apart(subject, before, after)
    listed = ", ".join(f"{name} {apart:.2g}" for name, apart in sorted(far.items()))
    detail = (
        f"above, the source cast to {_name(subject.dtype)} is compared with the export; from the source in "
        f"{_name(own)} the export is apart by at most: {listed}"
    )
    return [Check(name="cast", passed=True, detail=detail)]


def _apart(subject: Subject, one: HFModel, other: HFModel) -> dict[str, float]:
    """The largest absolute difference of each output over all cases."""
    missing = (*one.missing, *other.missing)
    far: dict[str, float] = {}
    for case in _cases(subject):
        sides = [without_random(run(m, inputs_for(m, case)), missing) for m in (one.model, other.model)]
        for name in sides[0].keys() & sides[1].keys():
            pairs = zip(*(side[name] for side in sides), strict=True)
            for a, b in pairs:
                far[name] = _larger(far.get(name, 0.0), largest_difference(a, b))
    return far


def largest_difference(a: Tensor, b: Tensor) -> float:
    """The largest absolute difference: 0 for equal infinities and NaN on both sides, NaN for NaN on one."""
    a, b = a.double(), b.double()
    equal = (a == b) | (a.isnan() & b.isnan())
    return float(torch.where(equal, 0.0, (a - b).abs()).max())


def _larger(one: float, other: float) -> float:
    return one if math.isnan(one) or one > other else other


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _models(subject: Subject) -> tuple[nn.Module, nn.Module, Sequence[str]]:
    """Source and export with their class, and the names that HF initialised at random."""
    known = subject.family.head_of(subject.named_class) is not None
    class_name = subject.named_class if known else subject.hf_class
    origin, copy = subject.their_source(class_name=class_name), subject.theirs(class_name=class_name)
    return origin.model, copy.model, (*origin.missing, *copy.missing)


def _bases(subject: Subject) -> tuple[nn.Module, nn.Module, Sequence[str]]:
    """After a change of head or rows, the base models of both: each folder loaded with its own head's class.

    With the other's class, HF would make parts of it up, or all of it where that class has another prefix.
    """
    origin = subject.their_source(class_name=subject.source_class)
    copy = subject.theirs(class_name=subject.hf_class)
    missing = [name for name in (*origin.missing, *copy.missing) if ".pooler." in f".{name}"]
    before, after = (cast("Any", loaded.model).base_model for loaded in (origin, copy))
    return before, after, missing


def _shared(after: Outputs, before: Outputs) -> list[Outputs]:
    """The outputs of two base models; a pooler's only where both have one."""
    alone = {"pooler_output"} - (after.keys() & before.keys())
    return [{name: value for name, value in side.items() if name not in alone} for side in (after, before)]


def _where(after: nn.Module, before: nn.Module, inputs: Mapping[str, Tensor]) -> str:
    return first_difference(after, before, pairs_by_name(after, before), inputs)
