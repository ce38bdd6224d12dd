"""Folders and files without permission: every command ends in one error, and nothing is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .folders import good

pytestmark = [
    pytest.mark.attack("unreadable folders, full disks"),
    pytest.mark.skipif(sys.platform != "linux", reason="permissions of root are given away as Linux does"),
]
CHILD = """
import contextlib, ctypes, io, json, sys, traceback
libc = ctypes.CDLL(None)
class Capabilities(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]
header, found = (ctypes.c_uint32 * 2)(0x20080522, 0), (Capabilities * 2)()
assert libc.capget(header, found) == 0
for name in ("effective", "permitted"):  # to read and to search whatever the permissions are
    setattr(found[0], name, getattr(found[0], name) & ~0b110)
assert libc.capset(header, found) == 0
from biject.cli.main import main
for arguments in json.loads(sys.argv[1]):
    err = io.StringIO()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = main(arguments)
        except BaseException:
            code, _ = "traceback", traceback.print_exc(file=err)
    print(json.dumps([code, err.getvalue()]))
"""


def close(*names: str) -> Callable[[Path], list[Path]]:
    return lambda folder: [folder / name for name in names]


CLOSED = {
    "folder": close("."),
    "weights": close("model.safetensors"),
    "config": close("config.json"),
    "config and weights": close("config.json", "model.safetensors"),
}


@pytest.mark.parametrize("mode", [0, 0o644])
@pytest.mark.parametrize("kind", CLOSED)
def test_every_command_says_so(tmp_path: Path, kind: str, mode: int) -> None:
    if mode and kind != "folder":
        pytest.skip("a file that may be read may be read")
    source, folder = good(tmp_path / "source"), good(tmp_path / "folder")
    data, out = tmp_path / "data.csv", tmp_path / "out"
    data.write_text("text,label\n" + "a good film,yes\nno,no\n" * 8)
    commands = [
        ["verify-export", folder],
        ["verify-export", folder, "--level", "lint"],
        ["verify-export", folder, "--source", source],
        ["verify-export", source, "--source", folder],
        ["export", "--hub", folder, "--out", out],
        ["inspect", folder],
        ["inspect", folder, "--json"],
        ["predict", folder, "hello"],
        ["finetune", "--model", folder, "--data", data, "--task", "seqcls", "--out", out],
        ["generate", folder, "hello"],
        ["new-family", folder],
    ]
    closed = CLOSED[kind](folder)
    for path in closed:
        path.chmod(mode)
    try:
        done = subprocess.run(
            [sys.executable, "-c", CHILD, json.dumps([list(map(str, one)) for one in commands])],
            capture_output=True,
            text=True,
            timeout=240,
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    finally:
        for path in closed:
            path.chmod(0o755)
    for command, line in zip(commands, done.stdout.splitlines(), strict=True):
        code, err = json.loads(line)
        assert code == 2, (command, code, err)
        errors = [line for line in err.splitlines() if line.startswith("biject: error: ")]
        assert len(errors) == 1, (command, err)
        assert str(folder) in errors[0]
        assert "ermission" in errors[0]
    assert not out.exists()
