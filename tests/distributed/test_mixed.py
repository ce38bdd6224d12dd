"""A process with a GPU and one without train together; the GPU is said, not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

WORKER = Path(__file__).with_name("mixed_worker.py")


def results(out: Path, *start: str) -> list[dict[str, Any]]:
    out.mkdir()
    done = subprocess.run(
        [sys.executable, *start, str(WORKER), str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"},
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(path.read_text()) for path in sorted(out.glob("?.json"))]


def test_a_cpu_beside_a_gpu(tmp_path: Path) -> None:
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    first, second = results(tmp_path / "two", *torchrun)
    (one,) = results(tmp_path / "one")
    assert first["mixed"] is second["mixed"] is True
    assert second["device"] == "cpu"  # there is one GPU, which the first has
    # Gradients of two halves are added in another order than one batch's (found: 1e-7 apart).
    assert first["step"] == second["step"] == pytest.approx(one["step"], rel=1e-6)
    assert first["again"] == first["step"][4:]
    assert first["cadence"] == second["cadence"]
