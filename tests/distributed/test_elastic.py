"""A process dies, hangs, or there are more or fewer of them after a restart."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from biject.verify.reference import make_reference

WORKER = Path(__file__).with_name("elastic_worker.py")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return make_reference("bert", "tokcls", tmp_path_factory.mktemp("elastic") / "model", overrides=off)


def run(
    model: Path, out: Path, *what: Any, count: int, restarts: int = 0
) -> subprocess.CompletedProcess[str]:
    """A run by so many processes, in a folder that may have one already."""
    out.mkdir(exist_ok=True)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--max-restarts", restarts]
    command = [sys.executable, *torchrun, "--nproc-per-node", count, WORKER, model, out, *what]
    return subprocess.run(
        [str(part) for part in command],
        env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"},
        capture_output=True,
        text=True,
        timeout=200,
    )


def found(out: Path, steps: int, attempt: int = 0) -> list[dict[str, Any]]:
    """What each rank of an attempt wrote."""
    files = sorted(out.glob(f"seen-{steps}-{attempt}-*.json"))
    return [json.loads(path.read_text()) for path in files]


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Twelve steps without any trouble, by two."""
    out = tmp_path_factory.mktemp("whole")
    assert run(model, out, "step", 12, count=2).returncode == 0
    return found(out, 12)


@pytest.mark.slow
def test_a_run_goes_on_with_three_processes_and_then_with_one(
    model: Path, whole: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Four steps each: the losses of two processes throughout; every sample of an epoch once."""
    losses: list[float] = []
    seen: list[int] = []
    for steps, count in ((4, 2), (8, 3), (12, 1)):
        done = run(model, tmp_path, "step", steps, count=count)
        assert done.returncode == 0, done.stderr[-3000:]
        ranks = found(tmp_path, steps)
        assert len({rank["digest"] for rank in ranks}) == 1
        losses += ranks[0]["losses"]
        seen += [sample for rank in ranks for sample in rank["seen"]]
    assert losses == pytest.approx(whole[0]["losses"], rel=1e-6)
    ours, theirs = torch.tensor(ranks[0]["weights"]), torch.tensor(whole[0]["weights"])
    assert float((ours - theirs).norm() / theirs.norm()) <= 1e-4  # Adam divides by small second moments
    assert sorted(seen[:80]) == list(range(80))  # an epoch has ten steps


def test_a_killed_process_costs_the_steps_since_the_last_checkpoint(
    model: Path, whole: list[dict[str, Any]], tmp_path: Path
) -> None:
    """kill -9 behind step 6: torchrun starts again from step 4, and ends with the same bits."""
    done = run(model, tmp_path, "step", 12, "kill", count=2, restarts=1)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "exitcode: -9) local_rank: 1" in done.stderr
    first, second = found(tmp_path, 12, 0), found(tmp_path, 12, 1)
    assert [len(rank["seen"]) for rank in first] == [16, 16]  # four steps of four
    assert {rank["digest"] for rank in second} == {whole[0]["digest"]}
    epoch = [sample for rank in first for sample in rank["seen"]]
    epoch += [sample for rank in second for sample in rank["seen"][:24]]  # the six steps up to its end
    assert sorted(epoch) == list(range(80))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["cadence", "async"])
def test_a_killed_process_of_ranks_that_step_by_themselves(model: Path, mode: str, tmp_path: Path) -> None:
    done = run(model, tmp_path, mode, 10, "kill", count=2, restarts=1)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = found(tmp_path, 10, 0), found(tmp_path, 10, 1)
    assert second[0]["digest"] == second[1]["digest"]
    assert sorted(sample for rank in (*first, *second) for sample in rank["seen"]) == list(range(80))


def test_a_hung_process_is_named_within_the_time_out(model: Path, tmp_path: Path) -> None:
    """SIGSTOP for good; the time-out is 8 seconds. The other one says who it is and what to do, and ends."""
    out = tmp_path / "run"
    out.mkdir()
    children = []
    for rank in range(2):
        group = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": 29000 + os.getpid() % 900}
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
        environment |= {"TORCHELASTIC_RESTART_COUNT": "0", **{name: str(v) for name, v in group.items()}}
        command = [sys.executable, str(WORKER), str(model), str(out), "step", "12", "hang"]
        children.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    try:
        started = time.monotonic()
        _, said = children[0].communicate(timeout=100)
        assert children[0].returncode == 2, said
        assert "Process 1 of this run does not answer: it hangs or was stopped" in said
        assert "--max-restarts" in said
        assert time.monotonic() - started < 60  # starting, 8 seconds, 5 for answers
    finally:
        children[1].send_signal(signal.SIGKILL)
        children[1].communicate()
