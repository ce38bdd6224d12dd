"""The bar of a run in terminals of 80 and of 40 columns; and where only stderr is one."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from biject.cli.terminal import fitted
from biject.events import Progress
from biject.progress import words

SCRIPT = """
DETAIL = "loss 0.4421, best accuracy 0.8125, 12,345 tokens/s"
import time
from biject.cli import console
from biject.cli.console import TerminalListener, print_lines
from biject.events import listening, progress
console._PATIENCE_SECONDS = 0.0
with TerminalListener() as listener, listening(listener):
    for i in range(1, 31):
        progress("training", i, 540, unit="steps", detail=DETAIL)
        time.sleep(0.02)
        if i == 20:
            print_lines(["EVALUATION step 20: loss 0.5"])
"""
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def shown(columns: int, *, stdout: Path | None = None, script: str = SCRIPT) -> list[str]:
    """The lines that a terminal of so many columns got, without colours and movements."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    out = slave if stdout is None else stdout.open("wb")
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=slave, stdout=out, stderr=slave,
        env={**environment, "TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(slave)
    text = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:
            break
        if not piece:
            break
        text += piece
    assert process.wait() == 0
    os.close(master)
    return [line for line in re.split(r"[\r\n]+", _ANSI.sub("", text.decode())) if line.strip()]


@pytest.mark.parametrize(
    ("columns", "has"),
    [(120, ("━", "loss 0.4421", "best accuracy 0.8125", "12,345 tokens/s")),
     (80, ("━", "loss 0.4421", "best accuracy 0.8125")), (40, ("loss 0.4421",)), (24, ("training",))],
)  # fmt: skip
def test_as_much_as_fits(columns: int, has: tuple[str, ...]) -> None:
    lines = shown(columns)
    bars = [line for line in lines if line.startswith("training")]
    assert len(bars) > 2
    assert all(part in bars[-1] for part in has), bars[-1]
    assert all(len(line.rstrip()) <= columns for line in lines)
    assert len(bars) == len([line for line in lines if "%" in line])  # one line each: nothing wrapped
    if columns >= 40:
        assert "EVALUATION step 20: loss 0.5" in "\n".join(lines)


def test_results_go_to_their_file_while_the_bar_is_on_the_terminal(tmp_path: Path) -> None:
    lines = shown(80, stdout=tmp_path / "out.txt")
    assert (tmp_path / "out.txt").read_text() == "EVALUATION step 20: loss 0.5\n"
    assert not [line for line in lines if "EVALUATION" in line]


def test_parts_that_fit() -> None:
    detail = "loss 0.4421, best f1 0.8, 12,345 tokens/s"
    assert fitted(detail, 99) == detail
    assert fitted(detail, 25) == "loss 0.4421, best f1 0.8"
    assert fitted(detail, 5) == ""


@pytest.mark.parametrize(
    ("event", "seconds", "text"),
    [(Progress(label="writing", done=45_000_000, total=90_855_944, unit="bytes"), 2.0,
      "writing 45/91 MB, 0:02 left"),
     (Progress(label="writing", done=8, total=90_855_944, unit="bytes"), 2.0, "writing 0/91 MB"),
     (Progress(label="training", done=120, total=580, unit="steps", detail="loss 1"), 60.0,
      "training 120/580 steps, 3:50 left, loss 1")],
)  # fmt: skip
def test_words(event: Progress, seconds: float, text: str) -> None:
    assert words(event, seconds=seconds) == text


def test_a_name_is_not_taken_for_markup() -> None:
    """Somebody's index may name a shard so."""
    lines = shown(80, script=SCRIPT.replace('"training"', '"writing a[/b][red].safetensors"'))
    assert any("writing a[/b][red].safetensors" in line for line in lines)
