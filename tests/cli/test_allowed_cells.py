"""What the contract allows does train: a step of every allowed cell of tiny models, in every precision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from biject.config.adapter import LoraConfig
from biject.config.recipe import FinetuneRecipe, TrainConfig
from biject.config.tasks import head_of
from biject.families import families
from biject.plan.cell import axes
from biject.plan.contract import decide
from biject.runs.cell import cell_of
from biject.runs.prepare import prepare
from biject.verify.reference import make_reference

CELLS = [
    (name, task)
    for name, family in families().items()
    for task in axes()["task"]
    if head_of(task) in family.heads and not (task == "embed" and family.reads_pictures)
]
METHODS = ("full", "lora", "nf4", "fp4", "int8")
SLICE = {
    ("bert", "seqcls"),
    ("gpt2", "causal"),
    ("llama", "causal"),
    ("deberta-v2", "qa"),
    ("modernbert", "mlm"),
    ("qwen3", "dpo"),
    ("gpt2", "reward"),
    ("vit", "imgcls"),
    ("modernbert", "embed"),
    ("bert", "rerank"),
}
"""What runs every time."""


def rows(folder: Path, task: str, write_data: Any) -> Path:
    if task != "causal":
        return write_data(folder, task, count=12)
    path = folder / "causal.jsonl"
    path.write_text("".join(json.dumps({"text": f"the model number {i} is good"}) + "\n" for i in range(12)))
    return path


def recipe_of(model: Path, data: Path, task: str, method: str, precision: str = "fp32") -> FinetuneRecipe:
    few = method in ("nf4", "fp4", "int8")
    options: dict[str, Any] = {"quantization": method} if few else {}
    return FinetuneRecipe(
        model=str(model),
        data=str(data),
        task=task,  # type: ignore[arg-type]
        method="qlora" if few else method,  # type: ignore[arg-type]
        adapter=LoraConfig(r=2) if method != "full" else LoraConfig(),
        train=TrainConfig(max_steps=1, batch_size=4, precision=precision),  # type: ignore[arg-type]
        **options,
    )


def train_a_step(recipe: FinetuneRecipe) -> None:
    prepared = prepare(recipe)
    session = prepared.trainer(recipe).setup(prepared.samples.train)
    before = {name: p.detach().clone() for name, p in prepared.model.named_parameters() if p.requires_grad}
    frozen = {
        name: p.detach().clone() for name, p in prepared.model.named_parameters() if not p.requires_grad
    }
    loss = session.step(next(iter(session.windows()))).loss
    assert loss == loss
    after = dict(prepared.model.named_parameters())
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert all(torch.equal(frozen[name], after[name]) for name in frozen)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("name", "task"),
    [pytest.param(*cell, marks=() if cell in SLICE else pytest.mark.slow) for cell in CELLS],
)
def test_a_step(name: str, task: str, method: str, tmp_path: Path, write_data: Any) -> None:
    if method in ("nf4", "fp4", "int8"):
        pytest.importorskip("bitsandbytes")
    model = make_reference(name, "causal" if task == "dpo" else "base", tmp_path / "model")
    recipe = recipe_of(model, rows(tmp_path, task, write_data), task, method)
    assert decide(cell_of(recipe)).allowed
    train_a_step(recipe)


@pytest.mark.parametrize("precision", ["bf16", "f16"])
@pytest.mark.parametrize("method", ["lora", "nf4", "int8"])
@pytest.mark.parametrize(("name", "task"), [("bert", "seqcls"), ("llama", "causal")])
def test_precisions(
    name: str, task: str, method: str, precision: str, tmp_path: Path, write_data: Any
) -> None:
    pytest.importorskip("bitsandbytes")
    model = make_reference(name, "base", tmp_path / "model")
    train_a_step(recipe_of(model, rows(tmp_path, task, write_data), task, method, precision))
