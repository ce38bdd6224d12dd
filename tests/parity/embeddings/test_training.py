"""Runs on folders with linears behind pooling: trained with the model, and resumed to the bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import biject
from biject.runs.resume import verify_recipe
from biject.tasks.encoder import EmbeddingModel
from parity.embeddings.conftest import opened
from parity.test_pipelines import TEXTS

Wrap = Callable[..., Path]
WORDS = ["paris", "is", "capital", "of", "france", ".", "the", "a", "b", "c", "d", "e"]


@pytest.fixture
def recipe(wrapped: Wrap, tmp_path: Path) -> biject.FinetuneRecipe:
    """Scored pairs, and a folder with a linear and Normalize."""
    folder = wrapped("bert", dense=({"out_features": 12},), normalize=True, prompts={"query": "the "})
    rng = np.random.default_rng(0)
    rows = [
        {
            "sentence1": " ".join(rng.choice(WORDS, 4)),
            "sentence2": " ".join(rng.choice(WORDS, 5)),
            "score": i / 39,
        }
        for i in range(40)
    ]
    data = tmp_path / "scored.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    train = biject.TrainConfig(epochs=2, batch_size=8, lr=1e-3)
    return biject.FinetuneRecipe(model=str(folder), data=str(data), task="embed", train=train)


def test_a_linear_is_trained_and_written(recipe: biject.FinetuneRecipe, tmp_path: Path) -> None:
    done = biject.finetune(recipe, out=tmp_path / "run")
    assert done.passed
    folder = tmp_path / "run" / "model"
    assert not (folder / "adapters").exists()
    ours = EmbeddingModel.from_pretrained(folder)
    assert ours.sentence.prompts["query"] == "the "
    assert np.abs(ours.encode(list(TEXTS)) - opened(folder).encode(list(TEXTS))).max() <= 2e-6
    before = EmbeddingModel.from_pretrained(recipe.model)
    assert ours.task.dense is not None
    assert before.task.dense is not None
    assert not torch.equal(ours.task.dense[0].linear.weight, before.task.dense[0].linear.weight)
    seen = json.loads((tmp_path / "run" / "insights.json").read_text())
    assert len(seen["points"]) == 4
    history = done.fit.history[-1]
    assert abs(seen["intervals"]["spearman"]["value"] - history["spearman"]) <= 1e-6


def test_it_is_resumed_to_the_bit(recipe: biject.FinetuneRecipe, tmp_path: Path) -> None:
    report = verify_recipe(recipe, steps=4)
    assert report.passed, report
