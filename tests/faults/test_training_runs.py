"""Training runs that are killed, or meet a full disk: one error, checkpoints stay good, exact resume."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from biject.cli.main import main
from biject.errors import CheckpointError
from biject.runs.folder import RunFolder
from biject.verify.reference import make_reference

pytestmark = pytest.mark.attack("runs that are killed or meet a full disk")

Write = Callable[..., Path]
STEPS, EVERY = 60, 7
RECIPE = f"""
[train]
max_steps = {STEPS}
batch_size = 4
checkpoint_every = {EVERY}
lr = 1e-3
evaluate_every = 20
"""
CHILD = """
import sys, time
from biject.checkpoint import writer
from biject.cli.main import main
import torch
torch.set_num_threads(1)
stall_at = sys.argv[1]
verify = writer._verify_weights
def stalling(path, planned, tensors):
    if stall_at in str(path):
        time.sleep(120)
    return verify(path, planned, tensors)
writer._verify_weights = stalling
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_reference("bert", "base", tmp_path_factory.mktemp("base") / "model")


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    return code, capsys.readouterr().err


def errors_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("biject: note: ")]


@pytest.fixture(scope="module")
def whole(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], str]:
    """The flags of a run, and the sha256 of what it gives when nothing happens."""
    folder = tmp_path_factory.mktemp("whole")
    rows = [
        f"the {word} fox is {kind},{kind}" for word in ("quick", "lazy", "lost") for kind in ("yes", "no")
    ]
    (folder / "rows.csv").write_text("\n".join(["text,label", *rows * 10]) + "\n")
    (folder / "recipe.toml").write_text(RECIPE)
    flags = ["finetune", "--recipe", folder / "recipe.toml", "--model", base, "--data", folder / "rows.csv"]
    arguments = [*map(str, flags), "--task", "seqcls", "--out"]
    torch.set_num_threads(1)
    assert main([*arguments, str(folder / "run")]) == 0
    return arguments, digest(folder / "run")


def digest(run: Path) -> str:
    return hashlib.sha256((run / "model" / "model.safetensors").read_bytes()).hexdigest()


def steps_done(run: Path) -> int:
    path = run / "events.jsonl"
    return path.read_bytes().count(b'"event": "step"') if path.exists() else 0


def start(arguments: list[str], out: Path, *, stall_at: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, "-c", CHILD, stall_at, *arguments, str(out)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def wait_for(condition: Callable[[], bool], child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        if child.poll() is not None or time.monotonic() > deadline:
            child.kill()
            assert child.stderr is not None
            raise AssertionError(f"the run ended too early: {child.stderr.read().decode()}")
        time.sleep(0.001)


@pytest.mark.parametrize(
    "moment", ["early", pytest.param("late", marks=pytest.mark.slow), "while a checkpoint is written"]
)
def test_kill_and_resume(
    whole: tuple[list[str], str], capsys: pytest.CaptureFixture[str], tmp_path: Path, moment: str
) -> None:
    """What is resumed ends in the same weights, to the bit, wherever the process was killed."""
    arguments, expected = whole
    out = tmp_path / "run"
    writing = moment.startswith("while")
    stalled = "step-000035" if writing else "step-000056"  # the run cannot end before it is killed
    step = random.randint(1, EVERY * 2) if moment == "early" else random.randint(EVERY * 3, EVERY * 7)
    child = start(arguments, out, stall_at=stalled)
    half = out / "checkpoints"
    if writing:
        wait_for(lambda: bool(list(half.glob(f".{stalled}*/model.safetensors"))), child)
    else:
        wait_for(lambda: steps_done(out) >= step, child)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not (out / "model").exists()
    assert not writing or list(half.glob(f".{stalled}*"))
    code, text = call(capsys, "finetune", "--out", out, "--resume")
    assert code == 0, text
    assert digest(out) == expected
    assert not [path for path in half.iterdir() if path.name.startswith(".")]
    assert steps_done(out) >= STEPS


def test_resume_of_nothing_begins_anew(
    whole: tuple[list[str], str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments, expected = whole
    code, text = call(capsys, *arguments, tmp_path / "run", "--resume")
    assert code == 0
    assert "starting a new one" in text
    assert digest(tmp_path / "run") == expected


def test_resume_of_a_finished_run_gives_the_same(
    whole: tuple[list[str], str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments, expected = whole
    out = tmp_path / "run"
    assert call(capsys, *arguments, out)[0] == 0
    assert call(capsys, "finetune", "--out", out, "--resume")[0] == 0
    assert digest(out) == expected


def test_a_full_disk_leaves_the_last_checkpoint_good(
    whole: tuple[list[str], str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments, expected = whole
    out = tmp_path / "run"
    from biject.checkpoint import writer

    finish = writer._finish

    def full(stream: object) -> None:
        name = str(getattr(stream, "name", ""))
        if "step-000021" in name and "trainer_state" in name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
        finish(stream)  # type: ignore[arg-type]

    monkeypatch.setattr(writer, "_finish", full)
    code, text = call(capsys, *arguments, out)
    assert code == 2
    (error,) = errors_of(text)
    assert "No space left on device" in error
    assert "step-000020 is intact: resume from there with --resume." in error
    names = sorted(path.name for path in (out / "checkpoints").iterdir())
    assert names == ["step-000014", "step-000020"]
    monkeypatch.undo()
    assert call(capsys, "finetune", "--out", out, "--resume")[0] == 0
    assert digest(out) == expected


def test_a_limit_on_files_sizes(whole: tuple[list[str], str], tmp_path: Path) -> None:
    """The real thing: the kernel refuses to write past a size, in the first checkpoint already."""
    arguments, _ = whole
    limited = (
        "import resource, signal, sys\nfrom biject.cli.main import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\nsys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, *arguments, str(tmp_path / "run")], capture_output=True, text=True
    )
    assert done.returncode == 2
    (error,) = errors_of(done.stderr)
    assert "File too large" in error
    assert not list((tmp_path / "run").glob("checkpoints/*"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_events_on_a_full_disk(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").symlink_to("/dev/full")
    with pytest.raises(CheckpointError, match=r"No space left on device.*--resume"):
        RunFolder(tmp_path).event("step", step=1)


def test_the_line_of_a_killed_process_is_passed_over(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.event("start", recipe={})
    with (tmp_path / "events.jsonl").open("ab") as stream:
        stream.write(b'{"event": "st')
    run.event("resume")
    assert [event["event"] for event in run.events()] == ["start", "resume"]
    assert json.loads((tmp_path / "events.jsonl").read_bytes().splitlines()[-1])["event"] == "resume"
