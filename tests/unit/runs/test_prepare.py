"""What `finetune` makes of a recipe: one model, which the proof and the export leave as it is."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch

from biject.config.recipe import FinetuneRecipe, TrainConfig
from biject.model import Model
from biject.runs.finetune import finetune
from biject.runs.prepare import prepare, read_material, task_of
from biject.runs.proof import prove
from biject.save import save_model
from biject.verify.reference import make_reference


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows([f"word{i} word{i % 3}", ("no", "yes")[i % 2]] for i in range(16))
    return path


def recipe(folder: Path, rows: Path, **options: Any) -> FinetuneRecipe:
    train = TrainConfig(max_steps=2, batch_size=4, checkpoint_every=1)
    return FinetuneRecipe(model=str(folder), data=str(rows), task="seqcls", train=train, **options)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The head of every model that is built from now on."""
    heads: list[str] = []
    build = Model.__init__

    def counting(self: Model, identity: Any, *arguments: Any) -> None:
        heads.append(identity.head)
        build(self, identity, *arguments)

    monkeypatch.setattr(Model, "__init__", counting)
    return heads


@pytest.mark.parametrize("head", ["base", "seqcls"])
def test_one_model_is_built(head: str, rows: Path, tmp_path: Path, built: list[str]) -> None:
    folder = make_reference("bert", head, tmp_path / "model")
    asked = recipe(folder, rows, new_head=True)
    assert task_of(str(make_reference("bert", "seqcls", tmp_path / "other"))) == "seqcls"
    read_material(asked)
    assert built == []
    prepared = prepare(asked)
    assert built == ["seqcls"]
    assert prepared.model.id2label == {0: "no", 1: "yes"}


def test_the_proof_leaves_the_model_as_it_is(rows: Path, tmp_path: Path) -> None:
    prepared = prepare(recipe(make_reference("bert", "base", tmp_path / "model"), rows))
    model = prepared.model.train()
    before = {name: (p, p.detach().clone()) for name, p in model.named_parameters()}
    save_model(model, tmp_path / "export", dtype=torch.bfloat16)
    report = prove(model, tmp_path / "export", prepared.samples.train, prepared.collate)
    assert report.passed, report.lines()
    assert model.training
    for name, parameter in model.named_parameters():
        same, values = before[name]
        assert parameter is same
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, values)


def test_an_embedders_files_are_left_out_and_the_source_stays(rows: Path, tmp_path: Path) -> None:
    folder = make_reference("bert", "base", tmp_path / "model")
    (folder / "modules.json").write_text('[{"idx": 0, "path": ""}, {"idx": 1, "path": "1_Pooling"}]')
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text("{}")
    asked = recipe(folder, rows)
    prepared = prepare(asked)
    assert prepared.without == ("1_Pooling/config.json", "modules.json")
    assert set(prepared.without) < set(prepared.model.source.assets)
    assert "LEFT OUT 1_Pooling/config.json, modules.json: they are for embeddings" in prepared.lines
    finetune(asked, out=tmp_path / "run")
    written = [path for path in (tmp_path / "run").rglob("*") if path.name in ("modules.json", "1_Pooling")]
    assert written == []
    assert (tmp_path / "run" / "checkpoints" / "step-000002" / "config.json").is_file()
