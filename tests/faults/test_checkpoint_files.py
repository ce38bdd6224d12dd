"""Whatever happens to files and disks: one clear error, and nothing lost."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from biject.checkpoint import staging, writer
from biject.checkpoint.header import read_header
from biject.checkpoint.reader import Reader
from biject.checkpoint.source import open_source
from biject.checkpoint.writer import write_folder
from biject.errors import BijectWarning, CheckpointError

pytestmark = pytest.mark.attack("checkpoints of a run, damaged")

TENSORS = {"a": torch.arange(40.0), "b": torch.ones(3, 4, dtype=torch.bfloat16)}


def write(out: Path, **options: Any) -> None:
    options = {"tensors": TENSORS, "like": None, "files": {"config.json": b"{}"}, **options}
    write_folder(out, **options)


def everything(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def read_all(folder: Path) -> None:
    """Touch every tensor; no error but `CheckpointError` comes through."""
    with suppress(CheckpointError):
        source = open_source(folder)
        for name in source.tensors:
            Reader(source).tensor(name).sum()


def test_random_damage_is_one_error_or_a_valid_folder(tmp_path: Path) -> None:
    """Flip, cut, or insert bytes in any file of a folder; nothing but CheckpointError may come out."""
    generator = random.Random(11)
    folder = tmp_path / "source"
    write(folder, max_shard_bytes=170)
    files = sorted(path for path in folder.iterdir())
    assert len(files) == 4
    for _ in range(400):
        path = generator.choice(files)
        content = path.read_bytes()
        end = min(len(content), generator.choice([8, 60, len(content)]))
        at = generator.randrange(end)
        junk = bytes(
            generator.choice([0, 0x22, 0x2D, 0x39, 0x5B, 0x7B, 0xFF]) for _ in range(generator.randint(0, 3))
        )
        path.write_bytes(content[:at] + junk + content[at + generator.randint(0, 3) :])
        read_all(folder)
        path.write_bytes(content)


@pytest.mark.parametrize("zipped", [True, False])
def test_random_damage_to_a_pickle(tmp_path: Path, zipped: bool) -> None:
    generator = random.Random(12)
    (tmp_path / "config.json").write_text("{}")
    path = tmp_path / "pytorch_model.bin"
    torch.save({**TENSORS, "tied": TENSORS["a"]}, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    for _ in range(300):
        at = generator.randrange(len(content))
        junk = generator.randbytes(generator.randint(0, 3))
        path.write_bytes(content[:at] + junk + content[at + generator.randint(0, 3) :])
        read_all(tmp_path)


def test_lying_header_allocates_nothing(tmp_path: Path) -> None:
    """Terabytes are claimed under an address-space limit of 3 GB: an error, not a MemoryError."""
    (tmp_path / "config.json").write_text("{}")
    for header in ({"a": {"dtype": "F64", "shape": [2**40], "data_offsets": [0, 2**43]}}, None):
        text = json.dumps(header).encode() if header else b""
        length = len(text) if header else 2**62
        (tmp_path / "model.safetensors").write_bytes(length.to_bytes(8, "little") + text)
        code = (
            "import resource, sys; from pathlib import Path\n"
            "from biject.checkpoint.source import open_source\n"
            "from biject.errors import CheckpointError\n"
            "resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))\n"
            "try: open_source(Path(sys.argv[1]))\n"
            "except CheckpointError: sys.exit(0)\n"
            "sys.exit(1)"
        )
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


@pytest.mark.parametrize("unit", [b"[],", b"{},", b'{"":0},', b"[[[[]]]],"])
def test_bombs_of_brackets(tmp_path: Path, unit: bytes) -> None:
    bomb = b'{"a":[' + unit * 1_000_000 + b"0]}"
    (tmp_path / "config.json").write_bytes(bomb)
    (tmp_path / "model.safetensors").write_bytes(len(bomb).to_bytes(8, "little") + bomb)
    for read in (open_source, lambda folder: read_header(folder / "model.safetensors")):
        with pytest.raises(CheckpointError, match="consists of brackets"):
            read(tmp_path)


def test_many_small_tensors_are_no_bomb(tmp_path: Path) -> None:
    entries = ",".join(
        f'"{i:x}":{{"dtype":"U8","shape":[],"data_offsets":[{i},{i + 1}]}}' for i in range(20_000)
    )
    header = b"{" + entries.encode() + b',"__metadata__":{"note":"' + b"[{" * 200_000 + b'"}}'
    (tmp_path / "m.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(20_000))
    assert len(read_header(tmp_path / "m.safetensors").tensors) == 20_000


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"No space left.*Free some space"):
        write(tmp_path / "new" / "deep" / "out")
    assert list(tmp_path.iterdir()) == []


def test_file_size_limit(tmp_path: Path) -> None:
    """A real refusal of the operating system, in the middle of a weight file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(CheckpointError, match="Free some space"):
            write(tmp_path / "out", tensors={"a": torch.zeros(1_000_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fault", ["header", "data", "cut"])
def test_what_is_written_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    finish = writer._finish

    def damage(stream: Any) -> None:
        finish(stream)
        if stream.name.endswith(".safetensors"):
            with Path(stream.name).open("r+b") as file:
                if fault == "cut":
                    file.truncate(50)
                file.seek({"header": 12, "data": -5, "cut": 0}[fault], 2 if fault == "data" else 0)
                file.write(b"~")

    monkeypatch.setattr(writer, "_finish", damage)
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        write(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_existing_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, files={"config.json": b'{"model_type": "bert"}', "merges.txt": b"old"})
    before = everything(tmp_path)
    with pytest.raises(CheckpointError, match="exists already"):
        write(out)
    assert everything(tmp_path) == before
    write(out, force=True)
    assert sorted(everything(tmp_path)) == ["out", "out/config.json", "out/model.safetensors"]


@pytest.mark.parametrize("when", ["write", "rename", "interrupt"])
def test_force_that_fails_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    out = tmp_path / "out"
    write(out, files={"config.json": b'{"model_type": "bert"}', "merges.txt": b"old"})
    before = everything(tmp_path)
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if "-new-" in self.name:
            raise KeyboardInterrupt if when == "interrupt" else OSError(errno.EIO, "broken")
        return rename(self, target)

    files: dict[str, Any] = {"config.json": b"2"}
    if when == "write":
        files["vocab.txt"] = tmp_path / "gone.txt"
    else:
        monkeypatch.setattr(Path, "rename", refuse)
        monkeypatch.setattr(staging, "exchange", lambda one, other: False)
    with pytest.raises(KeyboardInterrupt if when == "interrupt" else CheckpointError):
        write(out, files=files, force=True)
    assert everything(tmp_path) == before


def test_force_replaces_checkpoints_only(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    (tmp_path / "file").write_text("x")
    before = everything(tmp_path)
    for name in ("thesis", "file"):
        with pytest.raises(CheckpointError, match="force replaces"):
            write(tmp_path / name, force=True)
    assert everything(tmp_path) == before
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty", force=True)


def test_force_on_a_link_keeps_its_target(tmp_path: Path) -> None:
    write(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    before = everything(tmp_path / "real")
    write(tmp_path / "link", files={"config.json": b"2"}, force=True)
    assert not (tmp_path / "link").is_symlink()
    assert everything(tmp_path / "real") == before


def test_old_folder_that_cannot_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, ignore_errors: bool = False) -> None:
        raise OSError(errno.EACCES, "denied")

    write(tmp_path / "out")
    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.warns(BijectWarning, match="could not be removed"):
        write(tmp_path / "out", files={"config.json": b"2"}, force=True)
    assert (tmp_path / "out" / "config.json").read_bytes() == b"2"


@pytest.mark.parametrize("place", ["source", "source/inside", "link/inside", "", "link"])
@pytest.mark.parametrize("force", [False, True])
def test_out_and_source_stay_apart(tmp_path: Path, place: str, force: bool) -> None:
    write(tmp_path / "top" / "source")
    (tmp_path / "top" / "link").symlink_to(tmp_path / "top" / "source")
    (tmp_path / "top" / "config.json").write_text("{}")
    before = everything(tmp_path)
    with pytest.raises(CheckpointError, match="must be separate"):
        write(tmp_path / "top" / place, like=open_source(tmp_path / "top" / "source"), force=force)
    assert everything(tmp_path) == before


def test_paths_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    for out in (
        tmp_path / "file" / "out",
        tmp_path / "loop" / "out",
        tmp_path / ("x" * 300),
        tmp_path / "a\0b",
    ):
        with pytest.raises(CheckpointError):
            write(out)
    with pytest.raises(CheckpointError, match=r"vocab.txt"):
        write(tmp_path / "out", files={"config.json": b"{}", "vocab.txt": tmp_path / "vocab.txt"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "loop"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may do anything")
def test_no_permission(tmp_path: Path) -> None:
    write(tmp_path / "source")
    closed = tmp_path / "source" / "model.safetensors"
    closed.chmod(0)
    with pytest.raises(CheckpointError, match="permission"):
        open_source(tmp_path / "source")
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(CheckpointError, match="permission"):
        write(tmp_path / "closed" / "out")


def test_source_may_vanish_once_written(tmp_path: Path) -> None:
    """Mapped tensors outlive the folder that `force` replaces."""
    write(tmp_path / "out")
    source = open_source(tmp_path / "out")
    reader = Reader(source)
    tensors = {name: reader.tensor(name) for name in source.tensors}
    write(tmp_path / "out", tensors=tensors, force=True)
    assert torch.equal(tensors["a"], TENSORS["a"])
    shutil.rmtree(tmp_path / "out")
    assert torch.equal(tensors["b"], TENSORS["b"])


@pytest.mark.parametrize(
    "make", [lambda p: p.write_bytes(b""), lambda p: p.mkdir(), lambda p: p.symlink_to("gone")]
)
def test_shard_that_is_no_file(tmp_path: Path, make: Callable[[Path], object]) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "model-1.safetensors")
    weight_map = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (tmp_path / "config.json").write_text("{}")
    make(tmp_path / "model-2.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BijectWarning)  # the link to nothing is noticed, too
        with pytest.raises(CheckpointError, match=r"model-2\.safetensors"):
            open_source(tmp_path)
