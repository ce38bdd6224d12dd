"""Settings of a recipe, with transformers' own classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.fallback.test_runs import run

from biject.runs.finetune import Finetuned


def losses(done: Finetuned) -> list[float]:
    return done.fit.losses


@pytest.mark.parametrize("method", ["full", "lora"])
def test_layers_that_are_computed_again_change_nothing(
    method: str, checkpoint: Any, write_data: Any, tmp_path: Path
) -> None:
    model, data = checkpoint("roformer"), write_data(tmp_path / "data", "seqcls")
    plain, _ = run(tmp_path / "a", model, data, "seqcls", method=method)
    again, _ = run(
        tmp_path / "b", model, data, "seqcls", method=method, train={"gradient_checkpointing": True}
    )
    assert losses(again) == losses(plain)
    assert losses(plain)[0] != losses(plain)[-1]
    assert again.passed


@pytest.mark.parametrize(
    "train",
    [
        {"precision": "bf16"},
        {"max_tokens": 60},
        {"accumulate": 2},
        {"label_smoothing": 0.1},
        {"class_weights": "balanced"},
        {"layer_decay": 0.9, "freeze": ("embeddings",)},
        {"optimizer": "adafactor"},
    ],
    ids=lambda value: next(iter(value)),
)
def test_settings_of_training(
    train: dict[str, Any], checkpoint: Any, write_data: Any, tmp_path: Path
) -> None:
    done, _ = run(
        tmp_path, checkpoint("mpnet"), write_data(tmp_path / "data", "seqcls"), "seqcls", train=train
    )
    assert done.passed
    assert len(losses(done)) == 3


def test_a_gradient_added_up_is_that_of_one_batch(checkpoint: Any, write_data: Any, tmp_path: Path) -> None:
    model, data = checkpoint("mpnet", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0), None
    data = write_data(tmp_path / "data", "seqcls")
    whole, _ = run(tmp_path / "a", model, data, "seqcls", train={"batch_size": 8})
    parts, _ = run(tmp_path / "b", model, data, "seqcls", train={"batch_size": 4, "accumulate": 2})
    # Gradients of two halves are added in another order: the losses of three steps are 3e-8 apart.
    assert losses(parts) == pytest.approx(losses(whole), abs=3e-7)


def test_the_best_state_is_what_is_written(checkpoint: Any, write_data: Any, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", "seqcls")
    settings = {"evaluate_every": 1, "lr": 0.5, "max_steps": 4, "load_best": True}
    done, log = run(tmp_path, checkpoint("mpnet"), data, "seqcls", train=settings)
    best = min(done.fit.history, key=lambda entry: entry["loss"])
    assert done.fit.model_step == best["step"] < 4
    assert done.passed
    assert any(line.startswith(f"BEST step {best['step']:.0f} of 4") for line in log)


def test_the_card_says_how_it_is_verified(checkpoint: Any, write_data: Any, tmp_path: Path) -> None:
    done, _ = run(
        tmp_path, checkpoint("mpnet"), write_data(tmp_path / "data", "seqcls"), "seqcls", method="lora"
    )
    card = (done.folder / "adapter" / "README.md").read_text()
    assert "verify-export --backend hf FOLDER" in card
    assert 'biject.pipeline(model="PATH_OR_REPOSITORY", backend="hf")' in card
    events = [json.loads(line) for line in (done.folder / "events.jsonl").read_text().splitlines()]
    setup = next(event for event in events if event["event"] == "setup")
    assert setup["model"]["family"] == "mpnet"
    assert any("BACKEND hf" in line for line in setup["data_lines"])
