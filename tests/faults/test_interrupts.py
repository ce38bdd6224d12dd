"""Ctrl-C, SIGTERM and a closed terminal, in a pseudo-terminal: a checkpoint, a way on, the same bits."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from biject.cli.interrupts import exit_code
from biject.verify.reference import make_reference

pytestmark = pytest.mark.attack("a run that is interrupted")

CHILD = """
import os, sys, time
import torch
torch.set_num_threads(1)
from biject.train.loop import Engine
from biject.checkpoint import writer
step, verify = Engine.train_step, writer._verify_weights
def slow(self, batches):
    time.sleep(0.05)
    return step(self, batches)
def stalling(path, planned, tensors):
    if os.path.exists(sys.argv[1]):
        print("STALLED", flush=True)
        time.sleep(60)
    return verify(path, planned, tensors)
Engine.train_step, writer._verify_weights = slow, stalling
from biject.cli.main import main
print("BEGINS", flush=True)
sys.exit(main(sys.argv[2:]))
"""


LEAD = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


@dataclass
class Terminal:
    """A run of the command in a pseudo-terminal of its own, which it is the leader of."""

    process: subprocess.Popen[bytes]
    master: int
    text: str = ""
    closed: bool = field(default=False)

    def read(self, until: Callable[[], bool], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < deadline, f"nothing more came:\n{self.text}"
            if self.closed:
                time.sleep(0.02)
            elif select.select([self.master], [], [], 0.05)[0]:
                try:
                    self.text += os.read(self.master, 65536).decode(errors="replace")
                except OSError:  # the other end is closed
                    self.closed = True

    def ended(self) -> bool:
        return self.process.poll() is not None

    def finish(self) -> int:
        self.read(self.ended)
        while not self.closed and select.select([self.master], [], [], 0)[0]:
            try:
                self.text += os.read(self.master, 65536).decode(errors="replace")
            except OSError:
                break
        return self.process.returncode


def start(arguments: list[str], *, stall_at: str = "nowhere", by: tuple[str, ...] = ()) -> Terminal:
    """`by`: what starts the command, in place of Python alone."""
    by = by or (sys.executable, "-c", CHILD)
    master, slave = pty.openpty()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm", "COLUMNS": "200"}
    process = subprocess.Popen(
        [sys.executable, "-c", LEAD, *by, stall_at, *arguments],
        stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    return Terminal(process, master)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], str]:
    """The flags of a run, and the sha256 of what it gives when nothing happens."""
    folder = tmp_path_factory.mktemp("whole")
    base = make_reference("bert", "base", folder / "base")
    rows = [f"the {word} fox is {kind},{kind}" for word in ("quick", "lazy") for kind in ("yes", "no")]
    (folder / "rows.csv").write_text("\n".join(["text,label", *rows * 10]) + "\n")
    arguments = ["finetune", "--model", str(base), "--data", str(folder / "rows.csv"), "--task", "seqcls",
                 "--batch-size", "4", "--epochs", "3", "--lr", "1e-3"]  # fmt: skip
    done = start([*arguments, "--out", str(folder / "run")])
    assert done.finish() == 0, done.text
    return arguments, digest(folder / "run")


def digest(run: Path) -> str:
    return hashlib.sha256((run / "model" / "model.safetensors").read_bytes()).hexdigest()


def steps_done(run: Path) -> int:
    path = run / "events.jsonl"
    return path.read_bytes().count(b'"event": "step"') if path.exists() else 0


def resume(out: Path, expected: str) -> None:
    again = start(["finetune", "--resume", "--out", str(out)])
    assert again.finish() == 0, again.text
    assert digest(out) == expected
    assert not list(out.rglob(".*biject*"))


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM", "SIGHUP"])
def test_stops_at_a_step_and_goes_on_to_the_same_bits(whole, tmp_path: Path, how: str) -> None:
    arguments, expected = whole
    out = tmp_path / "run"
    shown = start([*arguments, "--out", str(out)])
    shown.read(lambda: steps_done(out) >= 4)
    if how == "Ctrl-C":
        os.write(shown.master, b"\x03")
        code = exit_code("SIGINT")
    elif how == "SIGTERM":
        shown.process.send_signal(signal.SIGTERM)
        code = exit_code("SIGTERM")
    else:
        os.close(shown.master)  # the terminal's window is closed
        shown.closed = True
        code = exit_code("SIGHUP")
    assert shown.finish() == code, shown.text
    assert not (out / "model").exists()
    done = steps_done(out)
    assert [path.name for path in (out / "checkpoints").glob(f"step-{done:06d}")]
    if how != "SIGHUP":
        assert "stopping after this step" in shown.text
        assert f"GO ON with: biject finetune --resume --out {out}" in shown.text
        assert "Traceback" not in shown.text
    resume(out, expected)


def test_a_second_ctrl_c_stops_at_once_and_loses_nothing(whole, tmp_path: Path) -> None:
    """It comes while the checkpoint of the first one is written; one before it is there to go on with."""
    arguments, expected = whole
    out, mark = tmp_path / "run", tmp_path / "stall"
    shown = start([*arguments, "--checkpoint-every", "3", "--out", str(out)], stall_at=str(mark))
    shown.read(lambda: steps_done(out) >= 4)
    mark.touch()
    os.write(shown.master, b"\x03")
    shown.read(lambda: "STALLED" in shown.text)
    began = time.monotonic()
    os.write(shown.master, b"\x03")
    assert shown.finish() == exit_code("SIGINT"), shown.text
    assert time.monotonic() - began < 20
    assert "Traceback" not in shown.text
    assert "step-000003" in [path.name for path in (out / "checkpoints").iterdir()]
    resume(out, expected)


def test_before_the_first_step_a_signal_ends_it_as_usual(whole, tmp_path: Path) -> None:
    arguments, _ = whole
    shown = start([*arguments, "--out", str(tmp_path / "run")])
    shown.read(lambda: "BEGINS" in shown.text)  # before it, what is interrupted is this test's own import
    os.write(shown.master, b"\x03")
    assert shown.finish() in (exit_code("SIGINT"), -signal.SIGINT), shown.text
    assert not (tmp_path / "run" / "model").exists()


FULL = """
mount -t tmpfs -o size="$1" none "$2" || exit 77
place="$2"
shift 2
"$@" --out "$place/run"
echo "FIRST ENDED WITH $?"
ls "$place/run/checkpoints"
ls -A "$place/run" "$place/run/checkpoints" | grep biject- && echo "LEFT OVER"
mount -o remount,size=1G "$place"
"$0" -m biject finetune --resume --out "$place/run"
echo "SECOND ENDED WITH $?"
sha256sum "$place/run/model/model.safetensors"
"""


def can_mount() -> bool:
    """Whether a user may have a file system of their own."""
    if shutil.which("unshare") is None:
        return False
    tried = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(tried, capture_output=True).returncode == 0


@pytest.mark.skipif(
    not can_mount(), reason="needs `unshare -rm` and a tmpfs in it: a small disk of one's own"
)
def test_a_disk_that_is_full_and_then_is_not(whole, tmp_path: Path) -> None:
    """A real file system with room for one checkpoint and a half; resumed once there is room."""
    arguments, expected = whole
    more = ["--checkpoint-every", "3", "--set", "train.evaluate_every=1000"]
    measured = start([*arguments, *more, "--max-steps", "3", "--no-verify", "--out", str(tmp_path / "one")])
    assert measured.finish() == 0, measured.text
    checkpoint = tmp_path / "one" / "checkpoints" / "step-000003"
    room = sum(-(-path.stat().st_size // 4096) * 4096 for path in checkpoint.rglob("*") if path.is_file())
    place = tmp_path / "disk"
    place.mkdir()
    disk = ("unshare", "-rm", "bash", "-c", FULL, sys.executable, str(room * 3 // 2 + 65536), str(place))
    shown = start([*arguments, *more], by=(*disk, sys.executable, "-c", CHILD))
    shown.finish()
    assert "FIRST ENDED WITH 2" in shown.text
    assert "No space left on device" in shown.text
    assert "--resume" in shown.text
    assert "Traceback" not in shown.text
    assert "LEFT OVER" not in shown.text
    assert re.findall(r"^step-\d+", shown.text, re.MULTILINE) == ["step-000003"]
    assert "SECOND ENDED WITH 0" in shown.text
    assert expected in shown.text


def test_ctrl_c_under_torchrun(whole, tmp_path: Path) -> None:
    """Two processes: one checkpoint, one command to go on with, the bits of a run that nobody interrupted."""
    arguments, _ = whole
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    both = (*launcher, str(script))
    command = [*arguments, "--set", "sync.shares=[1, 1]"]
    undisturbed = start([*command, "--out", str(tmp_path / "whole")], by=both)
    assert undisturbed.finish() == 0, undisturbed.text
    assert undisturbed.text.count("DONE ") == undisturbed.text.count("REPORT ") == 1
    out = tmp_path / "run"
    shown = start([*command, "--out", str(out)], by=both)
    shown.read(lambda: steps_done(out) >= 4)
    os.write(shown.master, b"\x03")
    shown.finish()
    assert f"GO ON with: torchrun --nproc-per-node 2 -m biject finetune --resume --out {out}" in shown.text
    assert not (out / "model").exists()
    done = steps_done(out)
    assert done < steps_done(tmp_path / "whole")
    assert [path.name for path in (out / "checkpoints").glob(f"step-{done:06d}")]
    again = start(["finetune", "--resume", "--out", str(out)], by=both)
    assert again.finish() == 0, again.text
    assert digest(out) == digest(tmp_path / "whole")
    last = json.loads((out / "events.jsonl").read_text().splitlines()[-1])
    assert 0 < last["mfu"] < 1
    assert last["peak_of"].endswith("measured, 2 processes")
