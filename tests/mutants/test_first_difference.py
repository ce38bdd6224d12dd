"""Mistakes in our own model: `forward` or `gradients` catches each and names the place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from biject.model import Model
from biject.verify.reference import make_reference
from biject.verify.report import LevelResult
from biject.verify.run import run_level
from biject.verify.subject import Subject
from mutants import adapter
from mutants.attention import ATTENTION
from mutants.axes import axes
from mutants.configs import CONFIGS
from mutants.modules import MODULES
from mutants.mutant import after, before, part

KINDS = {mutant.kind: mutant.mutate for mutant in (*CONFIGS, *MODULES, *ATTENTION)}
CELLS = (
    ("bert", "mlm"),
    ("albert", "seqcls"),
    ("deberta-v2", "tokcls"),
    ("roberta", "qa"),
    ("distilbert", "base"),
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    root, made = tmp_path_factory.mktemp("code"), {}

    def folder(model_type: str, head: str) -> Path:
        key = f"{model_type}-{head}"
        if key not in made:
            made[key] = make_reference(model_type, head, root / key)
        return made[key]

    return folder


def level(name: str, folder: Path, fault: Callable[[Model], object]) -> LevelResult:
    subject = Subject(folder)
    changed = fault(subject.ours)
    subject.ours = changed if isinstance(changed, Model) else subject.ours
    return run_level(name, subject)


def places(result: LevelResult) -> set[str]:
    return {check.where for check in result.failures if check.where}


@pytest.mark.parametrize(("model_type", "head"), [cell for cell in CELLS if cell[0] != "albert"])
def test_tanh_for_erf_gelu(folders, model_type: str, head: str) -> None:
    result = level("forward", folders(model_type, head), KINDS["other-gelu"])
    assert result.status == "fail"
    assert all("layers.0.mlp.down_proj" in place and "the activation" in place for place in places(result))


def test_position_plus_one(folders) -> None:
    result = level("forward", folders("bert", "mlm"), KINDS["position-plus-one"])
    assert result.status == "fail"
    assert all("embed.positions" in place and "the position ids" in place for place in places(result))


def test_scale_left_out(folders) -> None:
    def fault(model: Model) -> None:
        adapter.leave_out_scale(model, layers=slice(1, 2))

    result = level("forward", folders("roberta", "qa"), fault)
    assert result.status == "fail"
    assert all(
        "layers.1.attn.o_proj" in place and "the scale of the scores" in place for place in places(result)
    )


ATTENTION_CAUSES = (
    # (kind of mutant, cell, what the message has to say)
    ("scale-left-out", ("deberta-v2", "tokcls"), "the scale of the scores"),
    ("scale-left-out", ("gpt2", "causal"), "the scale of the scores: 1"),
    ("rope-base-changed", ("llama", "causal"), "so theta or its scaling"),
    ("rope-base-changed", ("modernbert", "mlm"), "so theta or its scaling"),
    ("window-one-too-wide", ("mistral", "causal"), "the window: a token sees"),
    ("window-one-too-wide", ("modernbert", "tokcls"), "the window: a token sees"),
    ("causal-mask-dropped", ("qwen3", "causal"), "the causal mask: tokens look ahead"),
    ("causal-mask-dropped", ("gpt2", "seqcls"), "the causal mask: tokens look ahead"),
    ("mask-ignored", ("bert", "mlm"), "the mask of padding"),
    ("mask-ignored", ("modernbert", "mlm"), "the mask of padding"),
    ("mask-ignored", ("deberta-v2", "tokcls"), "the mask of padding"),
)


@pytest.mark.parametrize(("kind", "cell", "words"), ATTENTION_CAUSES)
def test_what_goes_wrong_inside_of_attention_is_named(folders, kind: str, cell, words: str) -> None:
    """Mask, window, angles and scale each by its name, where all would end in the same module."""
    result = level("forward", folders(*cell), KINDS[kind])
    assert result.status == "fail"
    found = [place for place in places(result) if "attn.o_proj" in place]
    assert found
    assert any(words in place for place in found), found
    assert not any("the attention itself" in place for place in found)


def _without_angles(model: Model) -> None:
    for attention in adapter.attentions(model):
        attention.rope = None


def _mixed_values(model: Model) -> None:
    for attention in adapter.attentions(model):
        heads = attention._heads

        def mixed(x, norm, rope, heads=heads):
            return heads(x, norm, rope).flip(1) if norm is None and rope is None else heads(x, norm, rope)

        attention._heads = mixed


def _other_key_norm(model: Model) -> None:
    for attention in adapter.attentions(model):
        attention.k_norm = nn.LayerNorm(attention.spec.head_dim, elementwise_affine=False)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (_without_angles, "the rotary angles of queries and keys"),
        (adapter.shift_angles, "the rotary angles of queries and keys: the positions"),
        (_other_key_norm, "the keys before their positions: their norm"),
        (_mixed_values, "the values: heads are split"),
    ],
)
def test_what_is_done_to_heads_is_named(folders, fault: Callable[[Model], None], words: str) -> None:
    result = level("forward", folders("llama", "causal"), fault)
    found = [place for place in places(result) if "attn.o_proj" in place]
    assert any(words in place for place in found), places(result)


def test_residual_left_out(folders) -> None:
    def fault(model: Model) -> None:
        before(part(model, "layers.1.mlp_norm"), lambda x: x * 1.001)

    result = level("forward", folders("bert", "mlm"), fault)
    assert all(
        "layers.1.mlp_norm" in place and "the sum that is normalised" in place for place in places(result)
    )


@pytest.mark.parametrize(("model_type", "head"), CELLS)
def test_one_operation_off_by_one_ulp(folders, model_type: str, head: str) -> None:
    """The smallest fault there is, in one linear of the last layer."""

    def fault(model: Model) -> None:
        last = axes(model).layer_order[-1]
        after(part(model, f"layers.{last}.mlp.up_proj"), lambda _, y: torch.nextafter(y, y + 1))

    result = level("forward", folders(model_type, head), fault)
    assert result.status == "fail"
    assert all(
        f"layers.{0 if model_type == 'albert' else 1}.mlp.up_proj" in place for place in places(result)
    )
    assert all("itself: same input, other output" in place for place in places(result))


def test_eps_times_ten(folders) -> None:
    def fault(model: Model) -> None:
        part(model, "layers.0.attn_norm").eps = 1e-4

    result = level("forward", folders("bert", "mlm"), fault)
    assert all("layers.0.attn_norm" in place and "itself" in place for place in places(result))


def test_head_patched(folders) -> None:
    def fault(model: Model) -> None:
        after(part(model, "head.out"), lambda _, y: -y)

    result = level("forward", folders("albert", "seqcls"), fault)
    assert all("head.out" in place for place in places(result))


@pytest.mark.parametrize(("model_type", "head"), CELLS)
def test_a_gradient_that_is_lost(folders, model_type: str, head: str) -> None:
    """Outputs stay the same, one parameter no longer learns."""
    folder = folders(model_type, head)
    assert level("forward", folder, KINDS["gradient-lost"]).status == "pass"
    result = level("gradients", folder, KINDS["gradient-lost"])
    assert result.status == "fail"
    assert "layers.0.attn.v_proj.weight (max abs diff = inf)" in "\n".join(result.lines())


@pytest.mark.parametrize(("model_type", "head"), CELLS)
def test_another_dropout(folders, model_type: str, head: str) -> None:
    """Only the backward with dropout sees it."""

    def fault(model: Model) -> None:
        dropouts = [m for m in part(model, "layers.0").modules() if isinstance(m, nn.Dropout)]
        dropouts[-1].p = 0.3

    result = level("gradients", folders(model_type, head), fault)
    assert {check.case for check in result.failures} == {"dropout on, same seed"}
