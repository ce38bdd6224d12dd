"""`export --dtype` casts tensor by tensor: memory for the largest one, not for the model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from biject.verify.reference import make_reference

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
SIZES = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8}
MODEL = 12 * (4 * 512 * 512 + 2 * 512 * 2048) * 2
"""Bytes of the layers' matrices in bfloat16: 75 MB."""
WORKER = """
import re, sys, threading, time
from pathlib import Path
from biject.cli.main import main
import biject.checkpoint.cast as cast, torch
def anonymous():
    return 1024 * int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
peak, stop = [0], threading.Event()
def watch():
    while not stop.is_set():
        peak[0] = max(peak[0], anonymous())
        time.sleep(0.001)
if sys.argv[3] == "all at once":
    own = cast.Casting.__init__
    def whole(self, *given, **settings):
        own(self, *given, **settings)
        self.kept = {name: self[name] for name in self}
    cast.Casting.__init__ = whole
assert main(["export", "--hub", sys.argv[1], "--out", sys.argv[2] + "-warm"]) == 0
before = anonymous()
threading.Thread(target=watch, daemon=True).start()
code = main(["export", "--hub", sys.argv[1], "--out", sys.argv[2], "--dtype", "bfloat16"])
stop.set()
print(code, peak[0] - before)
"""


def growth(worker: str, source: Path, out: Path, how: str) -> int:
    """Bytes that a process grows by while it exports."""
    done = subprocess.run(
        [sys.executable, "-c", worker, str(source), str(out), how],
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    code, grown = map(int, done.stdout.split()[-2:])
    assert code == 0
    return grown


@pytest.mark.parametrize(("how", "fits"), [("one by one", True), ("all at once", False)])
def test_memory_of_a_cast(tmp_path: Path, how: str, fits: bool) -> None:
    """A planted cast of everything at once is above the bound."""
    source = make_reference("bert", "base", tmp_path / "source", overrides=SIZES)
    grown = growth(WORKER, source, tmp_path / "out", how)
    assert (grown < MODEL // 3) is fits, grown


RESIDENT = """
import sys
from pathlib import Path
from biject.cli.main import main
import biject.checkpoint.cast as cast
def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])
if sys.argv[3] == "kept":
    cast.forget_unwritten = lambda *_: None
assert main(["export", "--hub", sys.argv[1], "--out", sys.argv[2] + "-warm"]) == 0
Path("/proc/self/clear_refs").write_text("5")  # the peak is the present
before = status("VmRSS")
code = main(["export", "--hub", sys.argv[1], "--out", sys.argv[2]])
print(code, status("VmHWM") - before)
"""


@pytest.mark.parametrize(("how", "fits"), [("given back", True), ("kept", False)])
def test_pages_of_the_file_are_given_back(tmp_path: Path, how: str, fits: bool) -> None:
    """The whole process grows by a few tensors, mapped pages too; a README has all of them compared."""
    source = make_reference("bert", "base", tmp_path / "source", overrides=SIZES)
    (source / "README.md").write_text("# A card\n")
    grown = growth(RESIDENT, source, tmp_path / "out", how)
    assert (grown < MODEL // 2) is fits, grown  # the file has twice as many bytes as MODEL
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (
        source / "model.safetensors"
    ).read_bytes()
