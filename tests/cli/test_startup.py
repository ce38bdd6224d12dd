"""What `biject predict` of one text loads, and how it ends: nearly all of its time is torch's import."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from biject.verify.reference import make_reference

NEEDLESS = (
    "biject.runs", "biject.train", "biject.verify", "biject.bench", "biject.distributed.sharding",
    "transformers", "huggingface_hub", "jinja2", "peft", "sympy", "torch.distributed.checkpoint",
    "torch.distributed.tensor", "torch._dynamo", "torch._inductor", "PIL", "scipy", "sklearn", "pyarrow",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_reference("bert", "seqcls", tmp_path_factory.mktemp("startup") / "model")


def _run(*arguments: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *options, "-m", "biject", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _needless(importtime: str) -> list[str]:
    """Of what Python's `-X importtime` lists."""
    names = [line.rpartition("|")[2].strip() for line in importtime.splitlines() if "import time:" in line]
    assert "torch" in names
    return [name for name in names if any(name == one or name.startswith(one + ".") for one in NEEDLESS)]


def test_no_module_is_loaded_that_an_answer_does_not_need(folder: Path) -> None:
    done = _run("predict", str(folder), "paris", options=("-X", "importtime"))
    assert done.returncode == 0
    assert _needless(done.stderr) == []


def test_a_needless_module_is_seen() -> None:
    code = "import torch, biject.train.trainer"
    command = [sys.executable, "-X", "importtime", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "biject.train.trainer" in _needless(done.stderr)
    assert "sympy" in _needless(done.stderr)


def test_the_answer_is_whole_and_the_exit_code_is_kept(folder: Path) -> None:
    """The process ends without taking torch apart: what was printed is out, what was registered is done."""
    texts = [f"paris {i}" for i in range(500)]
    done = _run("predict", str(folder), *texts, "--json")
    assert done.returncode == 0
    assert len(json.loads(done.stdout)["results"]) == 500
    assert done.stdout.endswith("\n")
    assert _run("predict", str(folder), "a", "--top-k", "nothing").returncode == 2
    code = (
        "import atexit, sys; atexit.register(lambda: print('registered')); from biject.cli.main import main; "
        f"sys.argv = ['biject', 'predict', {str(folder)!r}, 'a']; main(); print('torn down')"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.endswith("registered\n")
    assert "torn down" not in ended.stdout
