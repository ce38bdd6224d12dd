"""The packed layout's part of level `forward`: real tokens as in HF's padded run, no leak between texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from biject.model import Model
from biject.nn.batch import HeadRequest
from biject.nn.layout import Packed
from biject.nn.planner import LayoutName
from biject.verify.hf import HFModel
from biject.verify.inputs import labels, mixed_cases
from biject.verify.outputs import compare_outputs, run, without_random
from biject.verify.report import Check
from biject.verify.subject import Subject, inputs_for

_PER_TOKEN = {"last_hidden_state", "hidden_states", "start_logits", "end_logits"}
_TOKEN_HEADS = {"tokcls", "mlm", "rtd", "causal"}


def packed_forward(subject: Subject, theirs: HFModel) -> list[Check]:
    """Every output at real tokens, of batches of unequal texts; then the same with one text changed."""
    checks = []
    for case in mixed_cases(subject.config, max_length=subject.max_length):
        inputs = inputs_for(theirs.model, case)
        mask = inputs["attention_mask"].bool()
        for hidden in (False, True):
            expected = without_random(run(theirs.model, inputs, output_hidden_states=hidden), theirs.missing)
            with in_layout(subject.ours, "packed"):
                found = run(subject.ours, inputs, output_hidden_states=hidden)
                rows = _rows(subject.ours, inputs)
            name = f"{case.name}, {rows}" + (", hidden states" if hidden else "")
            checks += compare_outputs(
                real_only(found, mask, subject.head), real_only(expected, mask, subject.head), case=name
            )
        checks += _loss(subject, theirs, inputs, mask, case.name)
        checks.append(_no_leak(subject, inputs, mask, case.name))
    return checks


def _loss(
    subject: Subject, theirs: HFModel, inputs: Mapping[str, Tensor], mask: Tensor, case: str
) -> list[Check]:
    given = labels(subject.config, subject.head, mask.long())
    if not given:
        return []
    expected = without_random(run(theirs.model, {**inputs, **given}), theirs.missing)
    with in_layout(subject.ours, "packed"):
        found = run(subject.ours, {**inputs, **given})
    only = {name: value for name, value in expected.items() if name == "loss"}
    return compare_outputs({"loss": found["loss"]}, only, case=f"{case}, labels")


def _no_leak(subject: Subject, inputs: Mapping[str, Tensor], mask: Tensor, case: str) -> Check:
    """Other ids in the first text, or another first picture, leave every bit of the others."""
    with in_layout(subject.ours, "packed"):
        before, after = run(subject.ours, inputs), run(subject.ours, {**inputs, **_other_first(inputs, mask)})
    same = all(
        torch.equal(a[1:], b[1:]) for name in before for a, b in zip(before[name], after[name], strict=True)
    )
    detail = "no bit of the other texts changed" if same else "other texts changed"
    return Check(name="one text changed", passed=same, detail=detail, case=case)


def _other_first(inputs: Mapping[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
    if "pixel_values" in inputs:
        pictures = inputs["pixel_values"].clone()
        pictures[0] += 1
        return {"pixel_values": pictures}
    ids = inputs["input_ids"].clone()
    low = int(ids[mask].min())
    ids[0] = torch.where(mask[0], low + (ids[0] - low + 1) % max(2, int(ids[mask].max()) - low), ids[0])
    return {"input_ids": ids}


@contextmanager
def in_layout(model: Model, layout: LayoutName) -> Iterator[None]:
    """The model in this layout for a while."""
    before = model.planner.layout
    model.planner.layout = layout
    try:
        yield
    finally:
        model.planner.layout = before


def _rows(model: Model, inputs: Mapping[str, Tensor]) -> str:
    """How many rows the layers compute, in words."""
    plan = model.planner(model, model.batch_of(**inputs), HeadRequest())
    if isinstance(plan.layout, Packed):
        return f"packed: {plan.layout.num_rows} of {plan.total} rows"
    return f"packing withdrawn: {plan.total} rows"


def real_only(outputs: Mapping[str, Any], mask: Tensor, head: str) -> dict[str, tuple[Tensor, ...]]:
    """The outputs at real tokens; those that are one a text as they are."""
    names = _PER_TOKEN | ({"logits"} if head in _TOKEN_HEADS else set())
    return {
        name: tuple(value[mask] for value in values) if name in names else tuple(values)
        for name, values in outputs.items()
    }
