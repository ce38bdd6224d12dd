"""Scorecards: the rule on known numbers, turns and seeds, what is refused, the page; both back ends."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from biject.config.adapter import LoraConfig
from biject.config.recipe import FinetuneRecipe, TrainConfig
from biject.config.recipe_file import dump_recipe, make_recipe, read_recipe
from biject.errors import InputError
from biject.pages.scorecard import render_scorecard
from biject.runs import scorecard as module
from biject.runs.scorecard import Scorecard, Trial, compare, contestant, scorecard
from biject.runs.trial import trial
from biject.verify.reference import make_reference

MB = 1_000_000


def card(ours: list[tuple[float, float, int]], theirs: list[tuple[float, float, int]]) -> Scorecard:
    """Of (quality, seconds, MB) for each cycle."""
    trials = tuple(
        Trial(contestant=name, cycle=cycle, quality=quality, seconds=seconds, peak_bytes=peak * MB)
        for name, runs in (("a", ours), ("b", theirs))
        for cycle, (quality, seconds, peak) in enumerate(runs)
    )
    return Scorecard(
        metric="accuracy", contestants=("a", "b"), cycles=len(ours), trials=trials, comparisons=()
    )


A = [(0.80, 10.0, 100), (0.82, 10.0, 100), (0.81, 10.0, 100)]


@pytest.mark.parametrize(
    ("theirs", "promoted", "says"),
    [
        ([(0.80, 5.0, 100), (0.82, 5.0, 100), (0.81, 5.0, 100)], True, "time is 0.50 times"),
        ([(0.80, 10.0, 50), (0.82, 10.0, 50), (0.81, 10.0, 50)], True, "memory is 0.50 times"),
        ([(0.84, 10.0, 100), (0.87, 10.0, 100), (0.85, 10.0, 100)], True, "quality gains +0.04333"),
        ([(0.80, 10.2, 99), (0.82, 9.9, 101), (0.81, 10.0, 100)], False, "about the same"),
        ([(0.70, 1.0, 10), (0.71, 1.0, 10), (0.72, 1.0, 10)], False, "quality is worse: -0.1"),
        ([(0.90, 20.0, 100), (0.92, 20.0, 100), (0.91, 20.0, 100)], False, "time is 2.00 times"),
        ([(0.79, 5.0, 100), (0.83, 5.0, 100), (0.81, 5.0, 100)], True, "time is 0.50 times"),
        ([(float("nan"), 1.0, 10), (0.82, 1.0, 10), (0.81, 1.0, 10)], False, "not a number"),
    ],
    ids=["faster", "smaller", "better", "same", "worse", "slower", "within-the-spread", "not-a-number"],
)
def test_the_rule(theirs: list[tuple[float, float, int]], promoted: bool, says: str) -> None:
    found = compare(card(A, theirs), "a", "b", sign=1)
    assert found.promoted is promoted, found
    assert says in found.reason


def test_a_loss_is_better_where_it_is_smaller() -> None:
    lower = [(0.5, 10.0, 100), (0.6, 10.0, 100), (0.55, 10.0, 100)]
    assert compare(card(A, lower), "a", "b", sign=-1).promoted
    assert not compare(card(A, lower), "a", "b", sign=1).promoted


@pytest.fixture
def recipes(tmp_path: Path, write_data: Callable[..., Path]) -> tuple[Path, Path]:
    model, data = make_reference("bert", "base", tmp_path / "model"), write_data(tmp_path, "seqcls")
    train = TrainConfig(max_steps=4, batch_size=8, metric="accuracy", lr=1e-3)
    lora = FinetuneRecipe(
        model=str(model), data=str(data), task="seqcls", method="lora", adapter=LoraConfig(r=4), train=train
    )
    full = replace(lora, method="full", adapter=LoraConfig())
    for name, recipe in (("lora", lora), ("full", full)):
        (tmp_path / f"{name}.toml").write_text(dump_recipe(recipe))
    return tmp_path / "lora.toml", tmp_path / "full.toml"


def test_contestants(recipes: tuple[Path, Path]) -> None:
    lora, full = recipes
    assert (contestant(str(lora)).backend, contestant(f"peft:{lora}").backend) == ("ours", "peft")
    assert contestant(f"full:{lora}").recipe == contestant(str(full)).recipe
    assert contestant(f"peft:{lora}").recipe == contestant(str(lora)).recipe


def test_turns_and_seeds(recipes: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int]] = []

    def run(command: list[str], **options: Any) -> Any:
        backend, recipe, result = command[-3:]
        values = read_recipe(Path(recipe))
        seen.append((backend, values["train"]["seed"]))
        found = {"quality": 0.5, "seconds": 1.0 if backend == "ours" else 2.0, "peak_bytes": MB}
        Path(result).write_text(json.dumps(found))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(module.subprocess, "run", run)
    names = [f"peft:{recipes[0]}", str(recipes[0])]
    found = scorecard([contestant(name) for name in names], cycles=3)
    assert seen == [("peft", 0), ("ours", 0), ("ours", 1), ("peft", 1), ("peft", 2), ("ours", 2)]
    assert found.promoted == (names[1],)
    assert found.comparisons[0].time_ratio == 2.0
    plain = json.loads(json.dumps(found.to_json()))
    assert plain["summary"][names[0]]["seconds"]["median"] == 2.0
    page = render_scorecard(
        {
            **plain,
            "contestants": ["<b>", names[1]],
            "summary": {"<b>": plain["summary"][names[0]], **plain["summary"]},
        }
    )
    assert "PROMOTED" in page
    assert "&lt;b&gt;" in page
    assert "<b>" not in page


def test_what_is_refused(recipes: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = contestant(str(recipes[0])), contestant(str(recipes[1]))
    with pytest.raises(InputError, match="at least two recipes"):
        scorecard([one], cycles=2)
    with pytest.raises(InputError, match="named twice"):
        scorecard([one, one], cycles=2)
    with pytest.raises(InputError, match="at least 2, since one run has no spread"):
        scorecard([one, other], cycles=1)
    by_loss = replace(other, recipe=replace(other.recipe, train=replace(other.recipe.train, metric="-loss")))
    with pytest.raises(InputError, match=r"one `train.metric`"):
        scorecard([one, by_loss], cycles=2)
    theirs = replace(one, name="peft:pairs", backend="peft", recipe=replace(one.recipe, task="reward"))
    with pytest.raises(InputError, match="the task reward has another"):
        scorecard([other, theirs], cycles=2)
    failed = subprocess.CompletedProcess([], 2, "", "note\nthe data are gone\n")
    monkeypatch.setattr(module.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(InputError, match="cycle 1, failed: the data are gone"):
        scorecard([one, other], cycles=2)


@pytest.mark.parametrize("backend", ["ours", "peft"])
def test_a_trial(recipes: tuple[Path, Path], backend: str) -> None:
    recipe = make_recipe(read_recipe(recipes[0]))
    found = trial(backend, recipe)
    assert (found["metric"], found["steps"]) == ("accuracy", 4)
    assert 0 <= found["quality"] <= 1
    assert found["seconds"] > 0
    assert found["peak_bytes"] > 100 * MB
    with pytest.raises(InputError, match="needs rows to evaluate on"):
        trial(backend, replace(recipe, validation=0.0))


@pytest.mark.parametrize("task", ["causal", "qa", pytest.param("mlm", marks=pytest.mark.slow)])
def test_both_back_ends_compute_the_same_loss(
    task: str, tmp_path: Path, write_data: Callable[..., Path]
) -> None:
    """Before anything is learned the evaluation's loss is one number, whoever computes it."""
    family = "llama" if task == "causal" else "bert"
    model = make_reference(family, task, tmp_path / "model")
    data = write_data(tmp_path, "mlm" if task == "causal" else task)
    recipe = FinetuneRecipe(
        model=str(model),
        data=str(data),
        task=task,  # type: ignore[arg-type]
        validation=0.3,
        method="full",
        train=TrainConfig(max_steps=1, batch_size=8, lr=1e-12, metric="-loss"),
    )
    ours, theirs = (trial(backend, recipe)["quality"] for backend in ("ours", "peft"))
    assert ours == pytest.approx(theirs, rel=1e-5)
