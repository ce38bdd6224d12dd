"""Mistakes that a float32 checkpoint without dropout hides: level `variants` finds each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from biject.config.model import ModelConfig
from biject.families import family
from biject.verify.reference import make_reference
from biject.verify.run import run_level
from biject.verify.subject import Subject

pytestmark = pytest.mark.attack("mistakes in a family's code")
NO_DROPOUT = {
    "bert": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout": 0.0},
    "distilbert": {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0, "qa_dropout": 0.0},
    "gpt2": {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "modernbert": {},
    "llama": {},
}


def _layers(change: Callable[[Any], Any]) -> Callable[[ModelConfig], ModelConfig]:
    return lambda config: replace(config, layers=tuple(map(change, config.layers)))


def _attention(config: ModelConfig) -> ModelConfig:
    def without(layer: Any) -> Any:
        spec = replace(layer.attention.spec, dropout=0.0)
        return replace(layer, attention=replace(layer.attention, spec=spec))

    return _layers(without)(config)


def _embedding(config: ModelConfig) -> ModelConfig:
    return replace(config, embedding=replace(config.embedding, dropout=0.0))


def _head(config: ModelConfig) -> ModelConfig:
    return replace(config, head=replace(config.head, dropout=0.0))


_mlp = _layers(lambda layer: replace(layer, mlp_dropout=0.0, mlp=replace(layer.mlp, dropout=0.0)))
_residual = _layers(lambda layer: replace(layer, attn_dropout=layer.mlp_dropout + 0.1))

DROPOUTS = [
    ("bert", "seqcls", _attention),
    ("bert", "seqcls", _embedding),
    ("bert", "seqcls", _head),
    ("bert", "tokcls", _mlp),
    ("bert", "base", _residual),
    ("distilbert", "seqcls", _head),
    ("distilbert", "qa", _head),
    ("gpt2", "causal", _embedding),
    ("gpt2", "causal", _attention),
    ("modernbert", "seqcls", _attention),
    ("modernbert", "seqcls", _embedding),
    ("modernbert", "seqcls", _mlp),
    ("modernbert", "tokcls", _head),
    ("llama", "causal", _attention),
    ("llama", "tokcls", _head),
]


@pytest.mark.parametrize(("model_type", "head", "mistake"), DROPOUTS)
def test_a_dropout_that_the_family_forgets(tmp_path: Path, monkeypatch, model_type, head, mistake) -> None:
    """The checkpoint has none, so every other level passes."""
    folder = make_reference(model_type, head, tmp_path / "made", overrides=NO_DROPOUT[model_type])
    assert run_level("variants", Subject(folder)).status == "pass"
    known = family(model_type)
    build = known.build
    monkeypatch.setitem(known.__dict__, "build", lambda values, name: mistake(build(values, name)))
    for level in ("forward", "gradients"):
        clean = NO_DROPOUT[model_type] and mistake is not _residual
        assert not clean or run_level(level, Subject(folder)).status == "pass"
    result = run_level("variants", Subject(folder))
    assert {check.case for check in result.failures} == {"every dropout set, same seed"}


@pytest.mark.parametrize(
    ("model_type", "head"),
    [("llama", "causal"), ("llama", "tokcls"), ("gpt2", "causal"), ("bert", "mlm"), ("modernbert", "mlm")],
)
def test_a_loss_in_the_wrong_precision(tmp_path: Path, monkeypatch, model_type: str, head: str) -> None:
    """In float32, where HF takes the logits' own dtype, or the other way round."""
    folder = make_reference(model_type, head, tmp_path / "made")
    known = family(model_type)
    build = known.build

    def flipped(values: Any, name: str) -> ModelConfig:
        config = build(values, name)
        if not hasattr(config.head, "float32_loss"):
            return config  # the trunk alone, of which the verifier reads the limits
        return replace(config, head=replace(config.head, float32_loss=not config.head.float32_loss))

    monkeypatch.setitem(known.__dict__, "build", flipped)
    assert run_level("forward", Subject(folder)).status == "pass"
    result = run_level("variants", Subject(folder))
    assert result.failures
    assert not any(check.case.startswith("every dropout") for check in result.failures)


@pytest.mark.parametrize("model_type", ["llama", "qwen3", "modernbert"])
def test_a_rotation_in_the_wrong_precision(tmp_path: Path, monkeypatch, model_type: str) -> None:
    """In float32, where HF rotates in the model's dtype, or the other way round."""

    def flipped(layer: Any) -> Any:
        rope = replace(layer.attention.rope, float32=not layer.attention.rope.float32)
        return replace(layer, attention=replace(layer.attention, rope=rope))

    folder = make_reference(model_type, "base", tmp_path / "made")
    known = family(model_type)
    build = known.build
    monkeypatch.setitem(known.__dict__, "build", lambda values, name: _layers(flipped)(build(values, name)))
    assert run_level("forward", Subject(folder)).status == "pass"
    result = run_level("variants", Subject(folder))
    assert {check.case.rpartition(", ")[2] for check in result.failures} == {"bfloat16", "float16", "float64"}
