"""`biject scorecard`: two back ends, in processes of their own."""

from __future__ import annotations

import json

import pytest

from biject.config.adapter import LoraConfig
from biject.config.recipe import FinetuneRecipe, TrainConfig
from biject.config.recipe_file import dump_recipe
from biject.verify.reference import make_reference


@pytest.mark.slow
def test_two_back_ends(run, write_data, tmp_path) -> None:
    recipe = FinetuneRecipe(
        model=str(make_reference("bert", "base", tmp_path / "model")),
        data=str(write_data(tmp_path, "seqcls")),
        task="seqcls",
        method="lora",
        adapter=LoraConfig(r=4),
        train=TrainConfig(max_steps=4, batch_size=8, metric="accuracy"),
    )
    path, out = tmp_path / "a.toml", tmp_path / "card"
    path.write_text(dump_recipe(recipe))
    outcome = run("scorecard", "--recipe", path, "--recipe", f"peft:{path}", "--out", out)
    assert outcome.code in (0, 1), outcome.err
    lines = outcome.out.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["RUN"] * 4
    assert lines[-1].startswith("VERDICT ")
    found = json.loads((out / "scorecard.json").read_text())
    assert (found["cycles"], len(found["trials"])) == (2, 4)
    assert (outcome.code == 0) == bool(found["promoted"])
    assert "Scorecard" in (out / "scorecard.html").read_text()
    assert run("scorecard", "--recipe", path, "--recipe", f"peft:{path}", "--out", out).code == 2


def test_what_cannot_be_compared(run, tmp_path) -> None:
    outcome = run("scorecard", "--recipe", tmp_path / "none.toml", "--recipe", tmp_path / "other.toml")
    assert outcome.code == 2
    assert "cannot be read" in outcome.err
    assert run("scorecard").code == 2
