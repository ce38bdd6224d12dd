"""Mistakes that change no number here: a wrong declaration is found by what runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from biject.model import Model
from biject.nn.attention import Attention
from biject.nn.mlp import MLP
from biject.nn.modules import LayerNorm, Linear, RMSNorm, TransposedLinear
from biject.nn.rowwise import RowOp
from biject.verify.levels.declared import declared
from biject.verify.reference import make_reference
from biject.verify.run import run_level
from biject.verify.subject import Subject

CELLS = (
    ("bert", "seqcls"),
    ("gpt2", "causal"),
    ("llama", "tokcls"),
    ("modernbert", "mlm"),
    ("deberta-v2", "qa"),
)


@pytest.fixture(scope="module")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Subject]:
    root, made = tmp_path_factory.mktemp("declared"), {}

    def subject(model_type: str, head: str) -> Subject:
        if (model_type, head) not in made:
            made[model_type, head] = Subject(make_reference(model_type, head, root / model_type))
        return made[model_type, head]

    return subject


def _wrong_width(kind: type, module: Any) -> tuple[RowOp, ...]:
    return tuple(op._replace(inputs=op.inputs * 2) for op in kind.__dict__["row_ops"](module))


def _nothing(kind: type, module: Any) -> tuple[RowOp, ...]:
    return ()


def _other_name(kind: type, module: Any) -> tuple[RowOp, ...]:
    other = {"bias": "transposed", "plain": "bias", "transposed": "plain", "layer": "rms", "rms": "layer"}
    return tuple(op._replace(name=other[op.name]) for op in kind.__dict__["row_ops"](module))


@pytest.mark.attack("mistakes in a family's code")
@pytest.mark.parametrize("cell", CELLS, ids="-".join)
@pytest.mark.parametrize("kind", [Linear, TransposedLinear, LayerNorm, RMSNorm, MLP])
@pytest.mark.parametrize("mistake", [_wrong_width, _nothing, _other_name])
def test_a_wrong_row_operation(subjects, monkeypatch, cell, kind: type, mistake) -> None:
    subject = subjects(*cell)
    present = any(type(module) is kind for module in subject.ours.layers.modules())
    if mistake is _other_name and kind is MLP:
        pytest.skip("an activation's name is not seen in the operations that it is made of")
    assert all(check.passed for check in declared(subject))
    original = kind.__dict__["row_ops"]

    def wrong(module: Any) -> tuple[RowOp, ...]:
        monkeypatch.setattr(kind, "row_ops", original)
        try:
            return mistake(kind, module)
        finally:
            monkeypatch.setattr(kind, "row_ops", wrong)

    monkeypatch.setattr(kind, "row_ops", wrong)
    rows, attention = declared(subject)
    assert attention.passed
    assert rows.passed is not present
    if present:
        assert "declare" in rows.detail


def _operation(name: str) -> Callable[[Model, Any], None]:
    def plant(model: Model, monkeypatch: Any) -> None:
        monkeypatch.setattr(Attention, "operation", property(lambda _: name))

    return plant


@pytest.mark.attack("mistakes in a family's code")
@pytest.mark.parametrize(
    ("cell", "operation"),
    [
        (("bert", "seqcls"), "causal attention"),
        (("bert", "seqcls"), "written-out attention"),
        (("modernbert", "mlm"), "causal attention"),
        (("gpt2", "causal"), "attention"),
        (("llama", "tokcls"), "attention"),
        (("deberta-v2", "qa"), "attention"),
        (("llama", "tokcls"), "attention by steps"),
        (("gemma2", "causal"), "causal attention"),
        (("gemma2", "causal"), "written-out attention"),
    ],
    ids=str,
)
def test_the_planner_is_told_another_operation(subjects, monkeypatch, cell, operation: str) -> None:
    subject = subjects(*cell)
    monkeypatch.setattr(Attention, "operation", property(lambda _: operation))
    _, found = declared(subject)
    assert not found.passed
    assert repr(operation) in found.detail


@pytest.mark.attack("mistakes in a family's code")
@pytest.mark.parametrize(
    "cell", [("modernbert", "mlm"), ("mistral", "causal"), ("gemma2", "causal")], ids="-".join
)
def test_a_window_that_is_not_the_one_that_runs(tmp_path: Path, cell, monkeypatch) -> None:
    """The plan's masks come from somewhere else than the spec that the planner asks about."""
    from dataclasses import replace

    subject = Subject(make_reference(*cell, tmp_path / "made"))
    model = subject.ours
    assert all(check.passed for check in declared(subject))
    for attention in model.attentions:
        call = attention.forward

        def forward(x, plan, attention=attention, call=call):
            spec = attention.spec
            attention.spec = replace(spec, window=None if spec.window is None else spec.window)
            plan = replace(plan, masks={kind: (None,) * len(m) for kind, m in plan.masks.items()})
            return call(x, plan)

        monkeypatch.setattr(attention, "forward", forward)
    _, found = declared(subject)
    assert not found.passed
    assert "window" in found.detail


def test_level_forward_has_both_checks(subjects) -> None:
    names = [check.name for check in run_level("forward", subjects("bert", "seqcls")).checks]
    assert {"row operations", "attention operations"} <= set(names)
