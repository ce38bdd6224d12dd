"""The guard acts in training where the learning rate is too large, and does not where it is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

WORKER = Path(__file__).with_name("guard_worker.py")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[float, list[dict[str, Any]]]:
    """What two processes saw of a small rate, and of one that makes them run apart."""
    seen = {}
    for rate in (0.01, 2.0):
        out = tmp_path_factory.mktemp("guard")
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        done = subprocess.run(
            [*command, str(WORKER), str(out), str(rate)],
            env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"},
            capture_output=True, text=True, timeout=200,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        seen[rate] = [json.loads((out / f"{rank}.json").read_text()) for rank in range(2)]
    return seen


@pytest.mark.parametrize("mode", ["cadence", "async"])
def test_the_guard_acts(mode: str, found: dict[float, list[dict[str, Any]]]) -> None:
    meetings = found[2.0][0][mode]["meetings"]
    acted = [number for number, meeting in enumerate(meetings) if meeting["guarded"]]
    assert acted
    before, after = meetings[acted[0] - 1], meetings[acted[0]]
    assert before["anchor"] > 1  # how large depends on what meetings cost, which is measured
    assert after["anchor"] == before["anchor"] // 2
    risen = [meeting["divergence"] for meeting in meetings[acted[0] - 3 : acted[0] + 1]]
    assert risen == sorted(risen)
    assert risen[-1] > 0.05
    for rank in found[2.0]:
        assert rank[mode]["heard"].count("sync-guard") == len(acted)
        assert [meeting["anchor"] for meeting in rank[mode]["meetings"]] == [m["anchor"] for m in meetings]


@pytest.mark.parametrize("mode", ["cadence", "async"])
def test_the_guard_leaves_a_calm_run_alone(mode: str, found: dict[float, list[dict[str, Any]]]) -> None:
    for rank in found[0.01]:
        assert rank[mode]["heard"] == []
        apart = [meeting["divergence"] for meeting in rank[mode]["meetings"]]
        assert len(set(apart)) > 3  # measured anew at every meeting
        assert max(apart) < 0.05
