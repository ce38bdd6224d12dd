"""Two CPU processes under torchrun do what one does with the same global batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from biject.verify.reference import make_reference
from distributed.cases import CASES

Results = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return make_reference("bert", "tokcls", tmp_path_factory.mktemp("ranks") / "model", overrides=off)


@pytest.fixture(scope="module")
def one(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("one")
    found = {name: case(folder, out) for name, case in CASES.items()}
    torch.set_num_threads(before)
    return found


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("two")


@pytest.fixture(scope="module")
def two(folder: Path, out: Path) -> list[Results]:
    worker = Path(__file__).with_name("worker.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, str(worker), str(folder), str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads((out / f"rank-{rank}.json").read_text()) for rank in range(2)]


def close(ours: list[float], theirs: list[float], bound: float = 1e-6) -> bool:
    """The bound is the issue's: sums over ranks are regrouped, so the last bits move."""
    return len(ours) == len(theirs) and all(
        abs(a - b) <= bound * abs(b) for a, b in zip(ours, theirs, strict=True)
    )


def test_the_loss_curve_is_that_of_one_process(one: Results, two: list[Results]) -> None:
    losses = one["curve"]["losses"]
    assert len(losses) == 104
    assert sum(losses[-10:]) < 0.95 * sum(losses[:10])
    for rank in two:
        assert close(rank["curve"]["losses"], losses)
    ours, theirs = torch.tensor(two[0]["curve"]["weights"]), torch.tensor(one["curve"]["weights"])
    assert float((ours - theirs).norm() / theirs.norm()) <= 1e-4  # Adam divides by small second moments


def test_every_sample_is_used_once_an_epoch(one: Results, two: list[Results]) -> None:
    epochs = zip(*(rank["curve"]["epochs"] for rank in (*two, one)), strict=True)
    for first, second, alone in epochs:
        assert sorted(first + second) == sorted(alone) == list(range(201))


def test_unequal_shares_of_a_batch_change_nothing(one: Results, two: list[Results]) -> None:
    """Five to two by tokens, 100 steps, the losses of one process; the issue's bound is 1e-6."""
    losses = one["unequal"]["losses"]
    assert len(losses) == 100
    for rank in two:
        assert close(rank["unequal"]["losses"], losses)
    for first, second, alone in zip(*(found["unequal"]["epochs"] for found in (*two, one)), strict=True):
        assert sorted(first + second) == sorted(alone) == list(range(201))
        # of eight samples 5.7 : 2.3 is asked for, and 6 : 2 ends earlier than 5 : 3
        assert 2.2 < len(first) / len(second) < 3.1


def test_gradients_travel_during_the_backward_pass(two: list[Results]) -> None:
    for rank in two:
        assert rank["unequal"]["overlapped"] >= 90  # of 100 steps; a rank without a batch has none


def test_shares_follow_speeds_within_three_meetings(one: Results, two: list[Results]) -> None:
    shares = two[0]["followed"]["shares"]
    assert shares == two[1]["followed"]["shares"]
    assert all(sum(step) == 32 for step in shares)
    assert shares[0] == [16, 16]
    assert shares[3][1] / 32 == pytest.approx(3 / 4, abs=0.08)  # the first step is passed over
    assert shares[11][1] / 32 == pytest.approx(3 / 4, abs=0.08)
    assert shares[15][1] / 32 == pytest.approx(1 / 4, abs=0.08)  # changed at step 12
    assert close(two[0]["followed"]["losses"], one["followed"]["losses"])


@pytest.mark.parametrize("name", [name for name in CASES if name != "refusal"])
def test_ranks_end_with_the_same_weights(name: str, two: list[Results]) -> None:
    assert two[0][name]["digest"] == two[1][name]["digest"]


@pytest.mark.parametrize("name", ["token_budget", "mean_step", "sum_step", "hugging_face", "stream"])
def test_any_model_and_data(name: str, one: Results, two: list[Results]) -> None:
    assert close(two[0][name]["losses"], one[name]["losses"])
    assert two[0][name]["losses"] == two[1][name]["losses"]


@pytest.mark.parametrize("name", ["cadence", "async", "outer"])
def test_ranks_that_step_by_themselves(name: str, one: Results, two: list[Results]) -> None:
    """Every sample once an epoch, the same weights at the end, nearly the loss of one process."""
    alone, (first, second) = one[name], [found[name] for found in two]
    every = [sample for sample in range(201) for _ in range(3)]
    evaluated = [*range(20)] * 3  # by the same collator
    assert sorted(first["seen"] + second["seen"]) == sorted([*every, *evaluated])
    assert first["steps"] == second["steps"] == alone["steps"] == [78, 78]
    assert first["evaluation"] == second["evaluation"]
    assert first["evaluation"][-1] < 1.3 * alone["evaluation"][-1]  # 5 to 15 % on so few samples
    assert first["evaluation"][-1] < 0.8 * first["losses"][0]
    meetings = [event["meeting"] for event in first["events"]]
    assert all(min(meeting["counts"]) >= 1 for meeting in meetings)
    assert len(meetings) < 78
    assert first["checkpoints"] == second["checkpoints"] != []


def test_an_evaluation_is_shared_and_gives_the_numbers_of_one(one: Results, two: list[Results]) -> None:
    """To the bit; metrics that cannot be merged see all samples in every rank."""
    for found in two:
        for name in ("ours", "own", "loss"):
            assert found["evaluation"][name] == one["evaluation"][name]
        assert found["evaluation"]["own seen"] == one["evaluation"]["ours seen"] == 50
    assert [found["evaluation"]["ours seen"] for found in two] == [24, 26]


def test_a_token_budget_uses_every_sample_once(two: list[Results]) -> None:
    assert sorted(two[0]["token_budget"]["seen"] + two[1]["token_budget"]["seen"]) == list(range(90))


def test_an_unused_parameter_is_passed_over(one: Results, two: list[Results]) -> None:
    for found in (one, *two):
        assert found["mean_step"]["unused_stayed"]
        assert found["mean_step"]["moved"]


def test_resume_is_exact_under_ranks(one: Results, two: list[Results]) -> None:
    for found in (one, *two):
        assert found["resume"]["resumed"] == found["resume"]["digest"]
        assert found["resume"]["later"] == found["resume"]["losses"][6:]


def test_state_and_export_are_written_once(two: list[Results], out: Path) -> None:
    assert two[0]["resume"]["written"] == ["step-000006", "step-000012"]
    assert two[1]["resume"]["written"] == []
    assert two[0]["resume"]["folders"] == ["step-000006", "step-000012"]
    names = sorted(path.name for path in (out / "export").iterdir())
    assert "model.safetensors" in names
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == []


def test_what_rank_0_cannot_write_ends_all(two: list[Results]) -> None:
    assert "in-the-way" in two[0]["refusal"]["error"]
    assert "rank 0" in two[1]["refusal"]["error"]


def test_processes_end_well_right_after_a_collective() -> None:
    """Without the pause of `let_go_at_exit` three of four such runs end in `terminate called`."""
    worker = Path(__file__).with_name("exit_worker.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*command, str(worker)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
