"""A package outside of Biject brings a family whose attention is its own; it passes the matrix like ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PLUGIN = Path(__file__).parents[1] / "plugin"


def biject(*arguments: str, plugin: bool = True) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([*([str(PLUGIN)] if plugin else []), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", "from biject.cli.main import main; raise SystemExit(main())", *arguments],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_it_passes_the_matrix() -> None:
    done = biject("verify-matrix", "--families", "glm", "--json")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    assert {cell["head"] for cell in found["cells"]} == {"base", "seqcls", "tokcls", "causal"}
    assert all(cell["passed"] for cell in found["cells"])


@pytest.mark.parametrize("wrong", ["turned * cos - crossed * sin", "turned * sin + crossed * cos"])
def test_a_wrong_operation_is_caught(wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    copied = tmp_path / "plugin"
    shutil.copytree(PLUGIN, copied)
    file = copied / "biject_glm" / "attention.py"
    file.write_text(file.read_text().replace("turned * cos + crossed * sin", wrong))
    monkeypatch.setitem(globals(), "PLUGIN", copied)
    done = biject("verify-matrix", "--families", "glm", "--heads", "base")
    assert done.returncode == 1
    assert "FAIL forward" in done.stdout


def test_without_the_package_the_family_is_unknown() -> None:
    done = biject("verify-matrix", "--families", "glm", plugin=False)
    assert done.returncode == 2
    assert "glm" in done.stderr
