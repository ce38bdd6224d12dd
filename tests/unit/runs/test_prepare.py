"""What `finetune` makes of a recipe: one model, which the proof and the export leave as it is."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from biject.config.recipe import FinetuneRecipe, TrainConfig
from biject.errors import InputError
from biject.model import Model
from biject.runs.finetune import finetune
from biject.runs.prepare import prepare, read_material, task_of
from biject.runs.preview import preview_recipe
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


QA = {"context": "a dog . a fox", "question": "who", "answers": {"text": ["dog"], "answer_start": [2]}}
LACKING = [
    ("seqcls", {"text": "word", "label": "yes"}, {"text": "word", "label": "no"}, "label"),
    ("qa", QA, {**QA, "context": "a dog . my fox"}, "context"),
    (
        "rerank",
        {"query": "word", "document": "a", "label": 1},
        {"query": "b", "document": "a", "label": 0},
        "query",
    ),
]


@pytest.mark.parametrize(("task", "one", "other", "column"), LACKING, ids=[case[0] for case in LACKING])
def test_rows_without_a_column_are_skipped(
    task: str, one: dict[str, Any], other: dict[str, Any], column: str, tmp_path: Path
) -> None:
    """And a preview names the lines of the others."""
    bad = {name: value for name, value in one.items() if name != column}
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in [bad, *[one, other] * 5]))
    folder = make_reference("bert", "base", tmp_path / "model")
    asked = FinetuneRecipe(
        model=str(folder),
        data=str(data),
        task=task,
        skip_bad_rows=True,
        validation=0.2,
        new_head=task == "rerank",
    )
    seen = preview_recipe(asked, 20)
    assert any("1 rows skipped" in line for line in seen.lines)
    places = [int(place.rpartition(" ")[2]) for place, _ in seen.samples]
    assert 5 <= len(places) <= 9
    assert set(places) <= set(range(2, 12))
    whole = preview_recipe(replace(asked, validation=0.0), 20)
    assert [int(place.rpartition(" ")[2]) for place, _ in whole.samples] == list(range(2, 12))


def test_contexts_that_are_no_texts_are_refused(tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text((json.dumps({**QA, "context": {"text": "a"}}) + "\n") * 4)
    folder = make_reference("bert", "base", tmp_path / "model")
    with pytest.raises(InputError, match="column `context`"):
        read_material(FinetuneRecipe(model=str(folder), data=str(data), task="qa"))
