"""`biject verify-resume` on a recipe, on flags, and on nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    from biject.verify.reference import make_reference

    folder = make_reference("bert", "seqcls", tmp_path / "model")
    rows = [f'"word{index} word{index + 1}",{"LABEL_0" if index % 2 else "LABEL_1"}' for index in range(40)]
    (tmp_path / "rows.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    text = (
        f'model = "{folder}"\ndata = "{tmp_path / "rows.csv"}"\ntask = "seqcls"\n\n[train]\nbatch_size = 4\n'
    )
    (tmp_path / "run.toml").write_text(text)
    return tmp_path / "run.toml"


@pytest.mark.parametrize("form", ["file", "folder"])
def test_a_recipe_resumes_exactly(form: str, recipe: Path, run: Callable[..., Any]) -> None:
    done = run("verify-resume", recipe if form == "file" else recipe.parent, "--steps", 4, "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert report["passed"]
    assert [level["name"] for level in report["levels"]] == ["resume"]
    assert len(report["levels"][0]["checks"]) == 9


def test_lines_and_keep(recipe: Path, run: Callable[..., Any], tmp_path: Path) -> None:
    done = run("verify-resume", recipe, "--steps", 2, "--keep", tmp_path / "kept")
    assert done.code == 0, done.err
    assert "PASS resume step 2 weights (" in done.out
    assert "VERDICT PASS seqcls on " in done.out
    assert (tmp_path / "kept" / "stopped" / "checkpoints" / "step-000002" / "model.safetensors").is_file()


def test_wrong_usage(recipe: Path, run: Callable[..., Any], tmp_path: Path) -> None:
    for arguments, said in [
        ((), "--model, --data, --task"),
        ((recipe, "--steps", 3), "even number"),
        ((tmp_path / "absent.toml",), "absent.toml"),
        ((recipe, "--data", tmp_path / "absent.csv"), "absent.csv"),
    ]:
        done = run("verify-resume", *arguments)
        assert done.code == 2
        assert said in done.err
