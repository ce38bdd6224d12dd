"""The examples run as they are, and say what the documentation says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from parity.real import real_folder

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(*arguments: object) -> str:
    if not EXAMPLES.is_dir():
        pytest.skip("an installed package has no examples")
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("name", [pytest.param("all-MiniLM-L6-v2", marks=pytest.mark.slow), "bert-tiny-mlm"])
def test_ten_sentences(name: str, tmp_path: Path) -> None:
    said = run(EXAMPLES / "ten_sentences.py", real_folder(name), tmp_path / "out")
    losses = [float(loss) for loss in re.findall(r"step \d  (\d\.\d+)", said)]
    assert len(losses) == 5
    assert losses[-1] < losses[0]
    assert "bit-exact (max abs diff = 0) [prompt]" in said
    assert "VERDICT PASS the export" in said
    assert (tmp_path / "out" / "model.safetensors").is_file()
    if name == "all-MiniLM-L6-v2":
        (glad_before, glad), (sad_before, sad) = re.findall(r"(\d\.\d+) -> (\d\.\d+)", said)
        assert float(glad) > float(glad_before)
        assert float(sad) < float(sad_before)


def test_own_module() -> None:
    errors = [float(error) for error in re.findall(r"errors (\d\.\d+)", run(EXAMPLES / "own_module.py"))]
    assert len(errors) == 8
    assert errors[-1] < 0.5 * errors[0]
