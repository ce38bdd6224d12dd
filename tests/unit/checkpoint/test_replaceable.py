"""`force` replaces checkpoints and nothing else; what killed processes left is cleared away."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from biject.checkpoint import staging
from biject.checkpoint.exchange import LEFT_OVER, clear, clear_left_overs, exchange, host, sibling
from biject.checkpoint.staging import staged_folder
from biject.errors import BijectWarning, CheckpointError
from biject.export import export_checkpoint
from biject.verify.reference import make_reference

pytestmark = pytest.mark.attack("data of others, and processes that are killed")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_reference("bert", "seqcls", tmp_path_factory.mktemp("replaceable") / "source")


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def web_project(folder: Path) -> None:
    (folder / "config.json").write_text('{"name": "shop", "port": 80}')
    (folder / "src").mkdir()
    (folder / "src" / "index.js").write_text("run()")


def config_alone(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "bert"}')


def config_that_is_a_list(folder: Path) -> None:
    (folder / "config.json").write_text("[]")
    (folder / "model.safetensors").write_text("weights")


def no_config(folder: Path) -> None:
    (folder / "model.safetensors").write_text("weights")


def with_sources(folder: Path) -> None:
    (folder / "src").mkdir()
    (folder / "src" / "train.py").write_text("train()")


def with_a_repository(folder: Path) -> None:
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("ref")


def with_data(folder: Path) -> None:
    (folder / "reviews.csv").write_text("text,label")


def with_a_script(folder: Path) -> None:
    (folder / "train.py").write_text("train()")


def with_a_run_inside(folder: Path) -> None:
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "config.json").write_text("{}")


def with_a_stranger_in_a_known_folder(folder: Path) -> None:
    (folder / "onnx").mkdir()
    (folder / "onnx" / "thesis.docx").write_text("years of work")


def with_a_hidden_file(folder: Path) -> None:
    (folder / ".env").write_text("KEY=1")


def with_a_link(folder: Path) -> None:
    (folder / "data").symlink_to("/")


EMPTY = [web_project, config_alone, config_that_is_a_list, no_config]
BESIDE = [
    with_sources, with_a_repository, with_data, with_a_script, with_a_run_inside,
    with_a_stranger_in_a_known_folder, with_a_hidden_file, with_a_link,
]  # fmt: skip


@pytest.mark.parametrize("fill", [*EMPTY, *BESIDE], ids=lambda fill: fill.__name__)
def test_nothing_of_others_is_replaced(fill: Callable[[Path], None], source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    if fill in EMPTY:
        out.mkdir()
    else:
        export_checkpoint(source, out=out)
    fill(out)
    before = contents(out)
    with pytest.raises(CheckpointError, match="force"):
        export_checkpoint(source, out=out, force=True)
    assert contents(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_checkpoints_are_replaced(source: Path, tmp_path: Path) -> None:
    for name in ("out", "empty"):
        (tmp_path / name).mkdir()
    export_checkpoint(source, out=tmp_path / "out", dtype="float16", force=True)
    for extra in ("README.md", "model.safetensors.index.json", "spiece.model", "LICENSE"):
        (tmp_path / "out" / extra).write_text("of a checkpoint")
    (tmp_path / "out" / "1_Pooling").mkdir()
    (tmp_path / "out" / "1_Pooling" / "config.json").write_text("{}")
    export_checkpoint(source, out=tmp_path / "out", force=True)
    assert contents(tmp_path / "out") == contents(source)
    export_checkpoint(source, out=tmp_path / "empty", force=True)


def test_files_that_came_along_may_come_again(source: Path, tmp_path: Path) -> None:
    rich = shutil.copytree(source, tmp_path / "rich")
    (rich / "handler.py").write_text("def handle(): pass")
    (rich / "images").mkdir()
    (rich / "images" / "one.png").write_bytes(b"picture")
    for _ in range(2):
        export_checkpoint(rich, out=tmp_path / "out", force=True)
    (tmp_path / "out" / "images" / "mine.png").write_bytes(b"mine")
    with pytest.raises(CheckpointError, match=r"images/mine\.png"):
        export_checkpoint(rich, out=tmp_path / "out", force=True)


@pytest.mark.parametrize("swaps", [True, False])
def test_the_old_folder_is_there_until_the_new_one_is(
    swaps: bool, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    export_checkpoint(source, out=out, dtype="float16")
    if not swaps:
        monkeypatch.setattr(staging, "exchange", lambda one, other: False)
    export_checkpoint(source, out=out, force=True)
    assert contents(out) == contents(source)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="renameat2")
def test_two_names_change_places(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a" / "b").is_file()
    assert not exchange(tmp_path / "a", tmp_path / "nowhere")


DEAD = 2**22 - 3


def test_left_overs_of_the_dead_are_cleared_and_a_lost_folder_is_back(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    new, old = (tmp_path / f".out.biject-{DEAD}-{kind}-{host()}0a" for kind in ("new", "old"))
    new.mkdir()
    shutil.copytree(source, old)
    (tmp_path / f".out.biject-{DEAD}-new-{host()}0b").write_text("a file")
    (tmp_path / f".other.biject-{DEAD}-new-{host()}0c").mkdir()
    living = tmp_path / f".out.biject-{os.getppid()}-new-{host()}0d"
    living.mkdir()
    elsewhere = tmp_path / f".out.biject-{DEAD}-new-00000000ff"
    elsewhere.mkdir()
    with pytest.warns(BijectWarning, match="it is back"):
        clear_left_overs(out)
    assert contents(out) == contents(source)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"out", f".other.biject-{DEAD}-new-{host()}0c", living.name, elsewhere.name}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_leave_nothing(number: int, tmp_path: Path) -> None:
    script = (
        f"import signal; signal.signal({int(number)}, signal.SIG_DFL)\n"  # nohup hands on that it is ignored
        "import sys, time\nfrom pathlib import Path\nfrom biject.checkpoint.staging import staged_folder\n"
        "with staged_folder(Path(sys.argv[1]) / 'out', force=False) as folder:\n"
        "    (folder / 'half').write_text('x')\n    print('in', flush=True)\n    time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"in\n"
    child.send_signal(number)
    assert child.wait(timeout=60) == 128 + number
    assert not list(tmp_path.iterdir())


def test_a_killed_export_is_cleared_by_the_next(source: Path, tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom biject.checkpoint.staging import staged_folder\n"
        "with staged_folder(Path(sys.argv[1]) / 'out', force=True) as folder:\n"
        "    (folder / 'half').write_text('x')\n    print('in', flush=True)\n    time.sleep(60)\n"
    )
    export_checkpoint(source, out=tmp_path / "out", dtype="float16")
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    child.kill()
    child.wait(timeout=60)
    assert len(list(tmp_path.iterdir())) == 2
    export_checkpoint(source, out=tmp_path / "out", force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_long_names_and_handlers(source: Path, tmp_path: Path) -> None:
    out = tmp_path / ("\N{GRINNING FACE}" * 63)
    export_checkpoint(source, out=out)
    assert contents(out) == contents(source)
    assert LEFT_OVER.fullmatch(sibling(out, "new", "0f").name)
    before = signal.getsignal(signal.SIGTERM)
    with staged_folder(tmp_path / "again", force=False) as folder:
        (folder / "config.json").write_text(json.dumps({}))
    assert signal.getsignal(signal.SIGTERM) is before


def test_long_names_that_begin_alike_stay_two(tmp_path: Path) -> None:
    one, other = (tmp_path / ("x" * 180 + ending) for ending in ("a", "b"))
    assert sibling(one, "old", "0f").name != sibling(other, "old", "0f").name
    aside = sibling(one, "old", "0f")
    aside = aside.with_name(aside.name.replace(f"-{os.getpid()}-", f"-{DEAD}-"))
    aside.mkdir()
    clear_left_overs(other)
    assert aside.is_dir()
    with pytest.warns(BijectWarning, match="it is back"):
        clear_left_overs(one)
    assert one.is_dir()


def test_left_overs_in_a_run_are_files_too_and_what_was_moved_aside_is_back(tmp_path: Path) -> None:
    for name in (".run.toml.biject-7-new-0", ".report.html.biject-7-new-0"):
        (tmp_path / name).write_text("half")
        clear(tmp_path / name)
    (tmp_path / ".step-000100.biject-7-old-0f").mkdir()
    with pytest.warns(BijectWarning, match="it is back"):
        clear(tmp_path / ".step-000100.biject-7-old-0f")
    assert [path.name for path in tmp_path.iterdir()] == ["step-000100"]
