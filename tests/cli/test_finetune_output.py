"""What a run says: short by default, the best state last, from which step it goes on; and longer runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from biject.pretrained import load

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def flags(base, write_data, tmp_path) -> tuple[object, ...]:
    data = write_data(tmp_path, "seqcls")
    return ("--model", base, "--data", data, "--task", "seqcls", "--batch-size", 8, "--lr", "3e-3")


def test_short_and_the_best_state_last(run, flags, tmp_path) -> None:
    """Five lines in the end; the checks are counted in the report, and listed on request."""
    short = run("finetune", "--out", tmp_path / "short", *flags, "--epochs", 1)
    lines = short.out.splitlines()
    assert [line.split()[0] for line in lines[-5:]] == ["DONE", "MODEL", "VERDICT", "REPORT", "BEST"]
    assert lines[-1].startswith("BEST step 5 of 5")
    assert lines[-3].startswith("VERDICT PASS")
    assert not [line for line in lines if line.startswith("PASS")]
    full = run("finetune", "--out", tmp_path / "full", *flags, "--epochs", 1, "--verbose")
    assert full.out.splitlines()[-1].startswith("BEST")
    assert len([line for line in full.out.splitlines() if line.startswith("PASS")]) > 5


def test_tracked(run, flags, tmp_path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "run"
    assert run("finetune", "--out", out, *flags, "--epochs", 2, "--track", "tensorboard").code == 0
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    losses = {event["step"]: event["loss"] for event in events if event["event"] == "step"}
    read = EventAccumulator(str(out / "tensorboard"))
    read.Reload()
    found = {event.step: event.value for event in read.Scalars("train/loss")}
    assert found == pytest.approx(losses, rel=1e-6)
    assert set(read.Tags()["scalars"]) >= {"eval/loss", "eval/accuracy", "train/lr"}
    wrong = run("finetune", "--out", tmp_path / "no", *flags, "--track", "tensorbord")
    assert (wrong.code, wrong.out) == (2, "")
    assert "There is no tracker 'tensorbord'; there are tensorboard" in wrong.err
    assert not (tmp_path / "no").exists()


def test_without_a_proof(run, flags, tmp_path) -> None:
    """It is quicker, and every place that would show the proof says that there is none."""
    done = run("finetune", "--out", tmp_path / "run", *flags, "--epochs", 1, "--no-verify")
    assert done.code == 0
    assert "NOT CHECKED the exported model" in done.out
    assert "VERDICT" not in done.out
    assert not (tmp_path / "run" / "verify.json").exists()
    assert "nothing was proven" in (tmp_path / "run" / "report.html").read_text()
    events = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    assert events[-1]["passed"] is None


def weights(folder: Path) -> list[torch.Tensor]:
    return [parameter.detach() for parameter in load(folder).parameters()]


def test_resume_says_from_where(run, flags, tmp_path) -> None:
    out = tmp_path / "run"
    first = run("finetune", "--out", out, *flags, "--epochs", 2, "--checkpoint-every", 3)
    assert "RESUME" not in first.out
    again = run("finetune", "--out", out, "--resume")
    newest = max((out / "checkpoints").iterdir())  # 9, or 10 where that was the best
    assert f"RESUME from step {int(newest.name[-6:])} of 10: {newest}" in again.out


def test_more_epochs(run, flags, tmp_path) -> None:
    """A constant rate: the longer run is the one that was never interrupted, to the bit."""
    same = (
        *flags,
        "--checkpoint-every",
        5,
        "--set",
        "train.schedule=constant",
        "--set",
        "train.load_best=false",
    )
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run("finetune", "--out", whole, *same, "--epochs", 3).code == 0
    assert run("finetune", "--out", parts, *same, "--epochs", 2).code == 0
    longer = run("finetune", "--out", parts, "--resume", "--epochs", 3)
    assert longer.code == 0, longer.err
    assert "RESUME from step 10 of 15" in longer.out
    pairs = zip(weights(whole / "model"), weights(parts / "model"), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert "epochs = 3" in (parts / "run.toml").read_text()
    shorter = run("finetune", "--out", parts, "--resume", "--epochs", 1)
    assert shorter.code == 2
    assert "this run ends at step 5" in shorter.err


def test_the_rate_goes_on_as_in_a_run_of_the_new_length(run, flags, tmp_path) -> None:
    out = tmp_path / "run"
    run("finetune", "--out", out, *flags, "--epochs", 1, "--checkpoint-every", 5)
    run("finetune", "--out", out, "--resume", "--epochs", 2)
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    rates = {event["step"]: event["lr"] for event in events if event["event"] == "step"}
    assert rates[5] == pytest.approx(3e-3 * 1 / 5)
    assert rates[6] == pytest.approx(3e-3 * 5 / 10)
    assert rates[10] == pytest.approx(3e-3 * 1 / 10)


def test_a_runs_folder_is_taken_for_its_model(run, flags, tmp_path) -> None:
    """By the commands that take a model's folder; a run without a result says how it gets one."""
    out = tmp_path / "run"
    assert run("finetune", "--out", out, *flags, "--epochs", 1, "--no-verify").code == 0
    told, direct = (run("predict", place, "the quick fox", "--json") for place in (out, out / "model"))
    assert (told.code, direct.code) == (0, 0)
    assert '"positive"' in told.out or '"negative"' in told.out
    assert told.out.replace(str(out / "model"), str(out)) == direct.out.replace(str(out / "model"), str(out))
    assert run("verify-export", out, "--level", "reload").code == 0
    shutil.rmtree(out / "model")
    missing = run("predict", out, "the quick fox")
    assert missing.code == 2
    assert "finish it with --resume" in missing.err
