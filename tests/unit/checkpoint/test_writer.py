from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from biject.checkpoint.bytes import tensor_bytes
from biject.checkpoint.reader import Reader
from biject.checkpoint.source import Source, open_source
from biject.checkpoint.writer import Written, write_folder
from biject.errors import CheckpointError

Make = Callable[..., Path]


def copy(folder: Path, out: Path, **options: Any) -> tuple[Source, Written]:
    source = open_source(folder)
    reader = Reader(source)
    files: dict[str, bytes | Path] = {
        "config.json": source.config_bytes,
        **{name: folder / name for name in source.assets},
    }
    tensors = {name: reader.tensor(name) for name in sorted(source.tensors)[::-1]}
    return source, write_folder(out, tensors=tensors, like=source, files=files, **options)


def sums(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}, {"z": "1", "format": "pt", "a": "é\n"}])
def test_identical(
    make_folder: Make, tensors: dict[str, torch.Tensor], metadata: Any, tmp_path: Path
) -> None:
    folder = make_folder(tensors, metadata=metadata)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text("{}")
    _, written = copy(folder, tmp_path / "out")
    assert sums(tmp_path / "out") == sums(folder) == written.files
    assert written.folder == tmp_path / "out"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]


ODD = [
    '{"b":{"shape":[2],"data_offsets":[4,8],"dtype":"F16"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    '{ "a" : {"dtype":"F32","shape":[],"data_offsets":[4,8]},\n "__metadata__":{"k":"v"}, "\\u0062":'
    '{"dtype":"U8","shape":[4],"data_offsets":[0,4], "x":null}}   \n',
    '{"a":{"dtype":"F64","shape":[1],"data_offsets":[0,8]},"e":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}',
]


@pytest.mark.parametrize("text", ODD)
def test_identical_with_odd_headers(raw_file: Make, text: str, tmp_path: Path) -> None:
    folder = raw_file(text, bytes(range(8))).parent
    copy(folder, tmp_path / "out")
    assert sums(tmp_path / "out") == sums(folder)


def test_identical_shards(make_sharded: Make, tmp_path: Path) -> None:
    folder = make_sharded()
    copy(folder, tmp_path / "out")
    assert sums(tmp_path / "out") == sums(folder)


def test_changed_values_keep_the_layout(make_sharded: Make, tmp_path: Path) -> None:
    source = open_source(make_sharded())
    reader = Reader(source)
    tensors = {name: reader.tensor(name) + 1 for name in source.tensors}
    write_folder(tmp_path / "out", tensors=tensors, like=source, files={"config.json": b"{}"})
    after = open_source(tmp_path / "out")
    assert after.tensors == source.tensors
    assert [header.raw for header in after.headers.values()] == [h.raw for h in source.headers.values()]
    assert torch.equal(Reader(after).tensor("a"), tensors["a"])


def test_new_file_is_the_library_s(tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    for metadata in (None, {}, {"format": "pt"}, {"k\x02": 'ü"\\\t'}):
        save_file(tensors, tmp_path / "expected", metadata={"format": "pt"} if metadata is None else metadata)
        write_folder(tmp_path / "out", tensors=tensors, like=None, files={}, metadata=metadata, force=True)
        assert (tmp_path / "out" / "model.safetensors").read_bytes() == (tmp_path / "expected").read_bytes()
        (tmp_path / "out" / "config.json").write_text("{}")


def test_new_shards(tmp_path: Path) -> None:
    tensors = {name: torch.full((10,), float(i)) for i, name in enumerate("dabc")}
    tensors["tied"] = tensors["d"]
    written = write_folder(
        tmp_path / "out", tensors=tensors, like=None, files={"config.json": b"{}"}, max_shard_bytes=90
    )
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert index["metadata"] == {"total_size": 200}
    assert index["weight_map"]["tied"] == "model-00003-of-00003.safetensors"
    assert sums(tmp_path / "out") == written.files
    source = open_source(tmp_path / "out")
    assert len(source.weight_files) == 3
    assert all(torch.equal(Reader(source).tensor(name), tensor) for name, tensor in tensors.items())


def test_like_s_metadata_unless_told_otherwise(make_folder: Make, tmp_path: Path) -> None:
    source = open_source(make_folder({"a": torch.ones(2)}, metadata={"who": "me"}))
    fewer = {"b": torch.ones(3)}
    write_folder(tmp_path / "one", tensors=fewer, like=source, files={"config.json": b"{}"})
    write_folder(
        tmp_path / "two",
        tensors={"a": torch.ones(2)},
        like=source,
        files={"config.json": b"{}"},
        metadata={"format": "pt"},
    )
    assert open_source(tmp_path / "one").headers["model.safetensors"].metadata == {"who": "me"}
    assert open_source(tmp_path / "two").headers["model.safetensors"].metadata == {"format": "pt"}


def test_from_bin(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    weight = torch.arange(6.0).reshape(2, 3)
    torch.save({"a": weight.T, "b": weight, "tied": weight}, tmp_path / "bin" / "pytorch_model.bin")
    (tmp_path / "bin" / "config.json").write_text("{}")
    copy(tmp_path / "bin", tmp_path / "out")
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert torch.equal(found["a"], weight.T)
    assert tensor_bytes(found["tied"]) == tensor_bytes(weight)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/x", "a/../../x", "./x", "a//b", "a/", "x\0"])
def test_names_that_escape(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="relative name"):
        write_folder(tmp_path / "out", tensors={"a": torch.ones(1)}, like=None, files={name: b""})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("names", [["model.safetensors"], ["model.safetensors/x"], ["a", "a/b"]])
def test_names_that_are_taken(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(ValueError, match="taken"):
        write_folder(
            tmp_path / "out", tensors={"a": torch.ones(1)}, like=None, files=dict.fromkeys(names, b"")
        )


@pytest.mark.parametrize(
    "tensors,message",
    [
        ({"a": torch.ones(2, dtype=torch.complex64)}, "complex64"),
        ({"a": torch.ones(2, 2).to_sparse()}, "dense"),
        ({"a": torch.ones(2, device="meta")}, "have data"),
        ({"a": 1.0}, "is a float"),
        ({"__metadata__": torch.ones(1)}, "tensor's name"),
        ({"\ud800": torch.ones(1)}, "tensor's name"),
        ({3: torch.ones(1)}, "tensor's name"),
    ],
)
def test_tensors_that_cannot_be_stored(tmp_path: Path, tensors: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        write_folder(tmp_path / "out", tensors=tensors, like=None, files={})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options", [{"max_shard_bytes": 0}, {"metadata": {"a": 1}}, {"metadata": {"a": "\ud800"}}]
)
def test_usage(tmp_path: Path, options: Any) -> None:
    with pytest.raises(ValueError):
        write_folder(tmp_path / "out", tensors={"a": torch.ones(1)}, like=None, files={}, **options)
    with pytest.raises(ValueError, match="no tensors"):
        write_folder(tmp_path / "out", tensors={}, like=None, files={})
