"""`init`, `example`, `completion`, `version`: what a newcomer types first."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import biject.cli.version
from biject.cli.main import main
from biject.verify.reference import make_reference


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return make_reference("bert", "base", tmp_path_factory.mktemp("base") / "model")


def test_init_makes_a_project_that_runs(run, base, tmp_path, monkeypatch) -> None:
    made = run("init", tmp_path / "my project", "--model", base)
    assert made.code == 0
    assert made.out.splitlines()[-1] == f"NEXT cd '{tmp_path / 'my project'}' && make run"
    monkeypatch.chdir(tmp_path / "my project")
    assert "$" not in Path("recipe.toml").read_text()
    makefile = Path("Makefile").read_text()
    assert "$(PYTHON) -m biject finetune --recipe recipe.toml --out runs/first" in makefile
    done = run("finetune", "--recipe", "recipe.toml", "--out", "runs/first", "--max-steps", 3)
    assert done.code == 0, done.err
    assert "VERDICT PASS" in done.out
    again = run("init", tmp_path / "my project")
    assert (again.code, again.out) == (2, "")
    assert "exists already and is not empty" in again.err


@pytest.mark.slow
def test_its_makefile_and_its_own_test(base, tmp_path) -> None:
    assert main(["init", str(tmp_path / "project"), "--model", str(base)]) == 0
    for target in ("run", "predict", "test"):
        done = subprocess.run(
            ["make", target, f"PYTHON={sys.executable}"],
            cwd=tmp_path / "project",
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_examples_are_listed_shown_and_run(run) -> None:
    listed = run("example")
    names = [line.split()[0] for line in listed.out.splitlines()]
    assert {"own_module", "named_entities", "ten_sentences"} <= set(names)
    assert run("example", "own_module", "--show").out.startswith('"""A module and a loop')
    wrong = run("example", "nothing")
    assert wrong.code == 2
    assert "There is no example 'nothing'; there are embeddings, multi_label," in wrong.err
    assert main(["example", "own_module"]) == 0
    assert main(["example", "ten_sentences"]) != 0  # it needs a checkpoint


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(run, shell) -> None:
    script = run("completion", shell)
    assert script.code == 0
    assert "finetune" in script.out
    assert "--checkpoint-every" in script.out


def answer(text: str, code: int = 0) -> Any:
    return lambda *a, **k: subprocess.CompletedProcess(a, code, stdout=text, stderr="")


def test_version_check(run, monkeypatch) -> None:
    own = biject.__version__
    monkeypatch.delenv("CI", raising=False)
    asked = biject.cli.version.subprocess
    for found, code, said in (("biject (99.0.1)\n", 0, ["99.0.1 is there: pip install --upgrade biject"]),
                              (f"biject ({own})\n", 0, []), ("", 1, []), ("nonsense", 0, [])):  # fmt: skip
        monkeypatch.setattr(asked, "run", answer(found, code))
        assert run("version", "--check").out.splitlines() == [own, *said]
    monkeypatch.setattr(asked, "run", answer("biject (99.0.1)\n"))
    assert run("version").out == f"{own}\n"
    monkeypatch.setenv("CI", "true")
    assert run("version", "--check").out == f"{own}\n"


def test_an_index_that_does_not_answer(run, monkeypatch) -> None:
    """Two seconds, and nothing said."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(biject.cli.version, "PATIENCE_SECONDS", 0.2)
    slow = subprocess.run
    waits = [sys.executable, "-c", "import time; time.sleep(30)"]
    monkeypatch.setattr(biject.cli.version.subprocess, "run", lambda command, **more: slow(waits, **more))
    began = time.monotonic()
    outcome = run("version", "--check")
    assert (outcome.code, outcome.out, outcome.err) == (0, f"{biject.__version__}\n", "")
    assert time.monotonic() - began < 5
