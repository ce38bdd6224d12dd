"""Training runs that meet bad input, a full disk or kill -9: one error, nothing half-done, exact resume."""

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


# --- bad input -------------------------------------------------------------------------------------------


def case(name: str, content: bytes | None, says: str, *flags: str, file: str = "rows.csv") -> object:
    return pytest.param(file, content, flags, says, id=name)


GOOD = b"text,label\n" + b"a good film,yes\nthe lazy dog,no\n" * 6
BAD_INPUT = [
    case("wrong column", GOOD, "no column 'txt'", "--text-column", "txt"),
    case("wrong label column", GOOD, "no column 'lable'", "--label-column", "lable"),
    case("empty file", b"", "is empty"),
    case("header only", b"text,label\n", "no rows below its header"),
    case("one column only", b"text\na\nb\n", "no column `label`"),
    case("one label only", b"text,label\na,yes\nb,yes\n", "two different labels"),
    case("binary junk", bytes(range(256)) * 20, "binary data"),
    case("latin-1", b"text,label\ncaf\xe9,yes\nb,no\n", "expected UTF-8"),
    case("missing label", b"text,label\na,yes\nb,\n", "expected a label, found none"),
    case("missing text", b"text,label\na,yes\n,no\n", "found an empty one"),
    case("ragged", b"text,label\na,yes\nb,no,maybe\n", "expected 2 columns"),
    case("absent file", None, "no such file"),
    case("a folder of nothing", None, "no such file", file="nothing/rows.jsonl"),
    case("unknown kind of file", GOOD, "ends in", file="rows.docx"),
    case("text that is a number", b'{"text": 3, "label": "a"}\n{"text": "b", "label": "b"}\n',
         "expected a text", file="rows.jsonl"),
    case("label of the wrong type", b'{"text": "a", "label": "x"}\n{"text": "b", "label": 2}\n',
         "expected str as in the rows before", file="rows.jsonl"),
    case("label that is a dict", b'{"text": "a", "label": {}}\n{"text": "b", "label": {}}\n',
         "expected a class", file="rows.jsonl"),
    case("no JSON", b"{text: 3}\n", "expected one JSON object a line", file="rows.jsonl"),
    case("three text columns", GOOD, "expected one column, or two", "--text-column", "text,label,text2"),
    case("a batch of nothing", GOOD, "`batch_size` should be at least 1", "--batch-size", "0"),
    case("too short", GOOD, "`max_length` should be at least 3", "--max-length", "2"),
    case("rate of zero", GOOD, "`lr` should be positive", "--lr", "0"),
    case("rate that is no number", GOOD, "lr", "--lr", "nan"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "content", "flags", "says"), BAD_INPUT)
def test_bad_input(
    capsys: pytest.CaptureFixture[str],
    base: Path,
    tmp_path: Path,
    file: str,
    content: bytes | None,
    flags: tuple[str, ...],
    says: str,
) -> None:
    if content is not None:
        (tmp_path / file).write_bytes(content)
    before = sorted(tmp_path.rglob("*"))
    code, text = call(
        capsys, "finetune", "--model", base, "--data", tmp_path / file, "--task", "seqcls", "--out",
        tmp_path / "run", *flags,
    )  # fmt: skip
    assert code == 2
    assert len(errors_of(text)) == 1, text
    assert says in text
    assert "Traceback" not in text
    assert sorted(tmp_path.rglob("*")) == before


def test_an_unknown_label_in_the_evaluation_rows(
    capsys: pytest.CaptureFixture[str], base: Path, tmp_path: Path
) -> None:
    (tmp_path / "train.csv").write_bytes(GOOD)
    (tmp_path / "eval.csv").write_text("text,label\na,yes\nb,perhaps\n")
    code, text = call(
        capsys, "finetune", "--model", base, "--data", tmp_path / "train.csv", "--eval-data",
        tmp_path / "eval.csv", "--task", "seqcls", "--out", tmp_path / "run",
    )  # fmt: skip
    assert code == 2
    assert len(errors_of(text)) == 1
    assert "eval.csv, line 3, column `label`: unknown label 'perhaps'" in text
    assert not (tmp_path / "run").exists()


def test_a_text_too_long_where_nothing_may_be_cut(
    capsys: pytest.CaptureFixture[str], base: Path, tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text("text,label\n" + "a good film,yes\nb,no\n" * 5 + "fox " * 99 + ",no\n")
    (tmp_path / "recipe.toml").write_text("truncate = false\nmax_length = 20\n")
    code, text = call(
        capsys, "finetune", "--recipe", tmp_path / "recipe.toml", "--model", base, "--data",
        tmp_path / "rows.csv", "--task", "seqcls", "--out", tmp_path / "run",
    )  # fmt: skip
    assert code == 2
    assert len(errors_of(text)) == 1
    assert "line 12, column `text`: the text has 101 tokens, more than the limit of 20" in text
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "kind", ["absent", "empty folder", "file", "no weights", "junk weights", "no tokenizer"]
)
def test_a_model_that_is_none(
    capsys: pytest.CaptureFixture[str], base: Path, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "rows.csv").write_bytes(GOOD)
    model = tmp_path / "model"
    if kind == "file":
        model.write_text("no model")
    elif kind != "absent":
        model.mkdir()
    keep = {
        "no weights": ("config", "tok"),
        "junk weights": ("config", "tok"),
        "no tokenizer": ("config", "model"),
    }
    for path in base.iterdir():
        if path.name.startswith(keep.get(kind, ("nothing",))):
            (model / path.name).write_bytes(path.read_bytes())
    if kind == "junk weights":
        (model / "model.safetensors").write_bytes(random.Random(0).randbytes(5000))
    code, text = call(
        capsys, "finetune", "--model", model, "--data", tmp_path / "rows.csv", "--task", "seqcls", "--out",
        tmp_path / "run",
    )  # fmt: skip
    assert code == 2
    assert len(errors_of(text)) == 1, text
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_something_else(
    capsys: pytest.CaptureFixture[str], base: Path, tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_bytes(GOOD)
    out = tmp_path / "run"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    for more in ((), ("--resume",)):
        code, text = call(
            capsys, "finetune", "--model", base, "--data", tmp_path / "rows.csv", "--task", "seqcls", "--out",
            out, *more,
        )  # fmt: skip
        assert code == 2
        assert len(errors_of(text)) == 1
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]


# --- kill -9 ---------------------------------------------------------------------------------------------


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
    assert "begins anew" in text
    assert digest(tmp_path / "run") == expected


def test_resume_of_a_finished_run_gives_the_same(
    whole: tuple[list[str], str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments, expected = whole
    out = tmp_path / "run"
    assert call(capsys, *arguments, out)[0] == 0
    assert call(capsys, "finetune", "--out", out, "--resume")[0] == 0
    assert digest(out) == expected


# --- a full disk -----------------------------------------------------------------------------------------


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
    assert "step-000020 is good: go on from there with --resume." in error
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
