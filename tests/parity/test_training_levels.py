"""Levels `steps` and `trained`: pass for every family, and fail where training or export is wrong."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from biject.errors import InputError
from biject.families import families
from biject.model import Model
from biject.pretrained import load
from biject.save import save_model
from biject.train import optim
from biject.train.trainer import Trainer
from biject.verify import LEVELS, verify_export, verify_trained
from biject.verify.inputs import training_case

Make = Callable[..., Path]
CELLS = [(name, head) for name, known in families().items() for head in known.heads]
FEW = {
    (name, list(known.heads)[index % len(known.heads)])
    for index, (name, known) in enumerate(families().items())
}


def marked(cells: list[tuple[str, str]]) -> Iterator[Any]:
    for cell in cells:
        yield pytest.param(*cell, marks=() if cell in FEW else pytest.mark.slow)


def tuned(folder: Path, head: str, **options: Any) -> Model:
    model = load(folder, dtype="float32", head=head, **options)
    batches = [dict(training_case(model.hf_config, head, seed=seed).inputs) for seed in range(3)]
    step = without_loss if head == "distilled" else None
    Trainer(model, lr=1e-3, step=step).fit(iter(batches), max_steps=3)
    return model


def without_loss(model: Any, batch: Any) -> torch.Tensor:
    """For a head that computes none, in transformers neither."""
    loss: torch.Tensor = model(**batch).logits.square().mean()
    return loss


@pytest.mark.parametrize(("model_type", "head"), list(marked(CELLS)))
def test_both_levels_of_every_family(model_type: str, head: str, reference: Make, tmp_path: Path) -> None:
    folder = reference(model_type, head)
    report = verify_export(folder, levels=["steps"])
    assert report.passed, report.lines()
    losses, weights = report.level("steps").checks
    assert losses.case == "20 AdamW steps, dropout on, same seed"
    assert weights.max_abs_diff == 0
    if head == "base":
        return
    model = tuned(folder, head)
    model.save_pretrained(tmp_path / "export")
    report = verify_trained(model, tmp_path / "export")
    assert report.passed, report.lines()
    assert [level.name for level in report.levels] == ["reload", "trained"]


def test_steps_is_run_when_asked_for(reference: Make) -> None:
    folder = reference("bert", "seqcls")
    assert "steps" in LEVELS
    assert "steps" not in [level.name for level in verify_export(folder).levels]
    with pytest.raises(InputError, match="verify_trained"):
        verify_export(folder, levels=["trained"])


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_steps_of_other_dtypes(dtype: str, reference: Make) -> None:
    """Half precision is trained in float32, as `finetune` holds it."""
    folder = reference("bert", "seqcls", dtype=getattr(torch, dtype))
    report = verify_export(folder, levels=["steps"])
    assert report.passed, report.lines()


@pytest.mark.parametrize("fault", ["decay", "rate", "dropout", "clipping"])
def test_steps_catches_a_wrong_trainer(fault: str, reference: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    if fault == "decay":
        monkeypatch.setattr(optim, "no_decay_names", lambda model: set())
    elif fault == "rate":
        monkeypatch.setattr(optim, "learning_rate_factor", lambda *a: 1.0)
    elif fault == "dropout":
        monkeypatch.setattr(Model, "train", lambda self, mode=True: torch.nn.Module.train(self, False))
    else:
        monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clip_twice(torch.nn.utils.clip_grad_norm_))
    report = verify_export(reference("bert", "seqcls"), levels=["steps"])
    assert not report.passed
    assert any("differ: " in check.detail for check in report.level("steps").checks)


def clip_twice(clip: Callable[..., Any]) -> Callable[..., Any]:
    """The trainer clips at less than it was told; the plain loop gives a list of another length."""
    state = {"calls": 0}

    def clipped(parameters: Any, norm: float) -> Any:
        state["calls"] += 1
        return clip(parameters, norm / 2 if state["calls"] <= 20 else norm)

    return clipped


def test_trained_names_what_differs(reference: Make, tmp_path: Path) -> None:
    folder = reference("bert", "seqcls")
    model = tuned(folder, "seqcls")
    model.save_pretrained(tmp_path / "export")
    with torch.no_grad():
        model.layers[1].mlp.up_proj.weight[3, 5] += 1e-7
    report = verify_trained(model, tmp_path / "export")
    assert not report.passed
    lines = [line for line in report.lines() if line.startswith("FAIL trained")]
    assert lines[0].endswith("differ: layers.1.mlp.up_proj.weight")
    assert any("first difference: layers.1.mlp.up_proj" in line for line in lines)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_trained_casts_as_the_export_is(dtype: torch.dtype, reference: Make, tmp_path: Path) -> None:
    folder = reference("bert", "tokcls")
    model = tuned(folder, "tokcls").train()
    save_model(model, tmp_path / "export", dtype=dtype)
    batch = dict(training_case(model.hf_config, "tokcls", seed=9).inputs)
    report = verify_trained(model, tmp_path / "export", prompt="word1 word2", batches=[batch])
    assert report.passed, report.lines()
    cases = {check.case for check in report.level("trained").checks}
    assert {"prompt", "data 1", "right-padded"} <= cases
    assert model.training
    assert next(model.parameters()).dtype == torch.float32


def test_trained_with_a_new_head(reference: Make, tmp_path: Path) -> None:
    model = tuned(reference("roberta", "mlm"), "seqcls", new_head={"labels": ["a", "b", "c"]})
    model.save_pretrained(tmp_path / "export")
    report = verify_trained(model, tmp_path / "export")
    assert report.passed, report.lines()


def test_a_copy_trains_alone(reference: Make, tmp_path: Path) -> None:
    model = load(reference("bert", "mlm"))
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1)
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    twin.save_pretrained(tmp_path / "export")
    assert verify_trained(twin, tmp_path / "export").passed
    averaged = torch.optim.swa_utils.AveragedModel(model)
    averaged.update_parameters(twin)
