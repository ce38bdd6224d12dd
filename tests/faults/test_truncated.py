"""A source that is cut short while it is read: one message and exit code 2, never a signal, nothing left."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from biject.verify.reference import make_reference

pytestmark = [
    pytest.mark.attack("data of others, and processes that are killed"),
    pytest.mark.skipif(sys.platform == "win32", reason="no SIGBUS"),
]
# Cut when the model's file has been mapped and checked: before it is computed with, copied, or hashed.
CUT = textwrap.dedent(
    """
    import os, sys
    import biject.checkpoint.reader as reader
    own = reader._view
    def view(storage, info, _left=[3]):
        tensor = own(storage, info)
        _left[0] -= 1
        if _left[0] == 0:
            os.truncate(sys.argv[1], 4096)
        return tensor
    reader._view = view
    from biject.cli.main import main
    sys.exit(main(sys.argv[2:]))
    """
)


def cut(file: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CUT, str(file), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_reference("bert", "seqcls", tmp_path / "source")


def check(done: subprocess.CompletedProcess[str], file: Path) -> None:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("biject: error:")]
    assert len(errors) == 1
    assert file.name in errors[0]
    assert "4096 bytes" in errors[0] or "changed" in errors[0]


@pytest.mark.parametrize("more", [(), ("--dtype", "bfloat16")])
def test_export(source: Path, tmp_path: Path, more: tuple[str, ...]) -> None:
    file = source / "model.safetensors"
    check(cut(file, "export", "--checkpoint", source, "--out", tmp_path / "out", *more), file)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_predict(source: Path) -> None:
    file = source / "model.safetensors"
    check(cut(file, "predict", source, "a good film"), file)


def test_verify_export(source: Path, tmp_path: Path) -> None:
    from biject.pretrained import load

    load(source).save_pretrained(tmp_path / "export")
    file = tmp_path / "export" / "model.safetensors"
    check(cut(file, "verify-export", tmp_path / "export", "--level", "forward"), file)


def test_finetune(source: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text("text,label\n" + "a good film,LABEL_0\nno,LABEL_1\n" * 8)
    file = source / "model.safetensors"
    arguments = ("--model", source, "--data", data, "--task", "seqcls", "--out", tmp_path / "run")
    check(cut(file, "finetune", *arguments), file)


def test_a_library_user_keeps_his_signals(source: Path) -> None:
    """Only the command sets a handler; in somebody's own process nothing is changed."""
    code = (
        "import sys, biject.checkpoint.truncated as t; from biject.pretrained import load;"
        "load(sys.argv[1]); assert t._handlers == []; assert t.MAPPED"
    )
    subprocess.run([sys.executable, "-c", code, str(source)], check=True)
