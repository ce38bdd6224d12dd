from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from biject.checkpoint.header import read_header
from biject.errors import CheckpointError

Raw = Callable[..., Path]


def entry(dtype: object = "F32", shape: object = (1,), offsets: object = (0, 4)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_agrees_with_the_library(make_folder: Callable[..., Path], tensors: dict[str, torch.Tensor]) -> None:
    path = make_folder(tensors, metadata={"format": "pt"}) / "model.safetensors"
    header = read_header(path)
    with safe_open(path, "pt") as file:
        assert set(header.tensors) == set(file.keys())
        assert header.metadata == file.metadata()
        for name, info in header.tensors.items():
            view = file.get_slice(name)
            assert (info.dtype, list(info.shape)) == (view.get_dtype(), view.get_shape())
            assert info.nbytes == tensors[name].numel() * tensors[name].element_size()
            assert info.numel == tensors[name].numel()
    assert header.file_bytes == path.stat().st_size
    assert path.read_bytes()[8 : header.data_start] == header.raw


@pytest.mark.parametrize(
    "text",
    [
        '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}      ',
        ' \n{ "a" : { "shape":[1], "data_offsets" : [0, 4], "dtype":"F32" } }\t',
        '{"__metadata__":null,"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"note":"x"}}',
        '{"e":{"dtype":"F32","shape":[0],"data_offsets":[4,4]},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}',
    ],
)
def test_odd_but_valid(raw_file: Raw, text: str) -> None:
    path = raw_file(text, b"\0" * 4)
    header = read_header(path)
    assert header.tensors["a"].nbytes == 4
    assert header.raw == text.encode()
    with safe_open(path, "pt") as file:  # the library takes them too
        assert file.get_tensor("a").numel() == 1


def test_order_of_text_and_of_data(raw_file: Raw) -> None:
    path = raw_file({"b": entry(offsets=(4, 8)), "a": entry()}, b"\0" * 8)
    header = read_header(path)
    assert list(header.tensors) == ["b", "a"]
    assert [info.name for info in header.in_data_order()] == ["a", "b"]


A = json.dumps(entry())
LIES: list[tuple[object, bytes, str]] = [
    ("[]", b"", "list"),
    ("", b"", "not JSON"),
    ("{", b"", "not JSON"),
    (b'{"\xff":1}', b"", "not UTF-8"),
    ('{"a":NaN}', b"", "NaN"),
    ('{"a":1e999}', b"", "too large"),
    ('{"a":' + "9" * 5000 + "}", b"", "out of range"),
    ("[" * 200_000, b"", "nested too deeply"),
    (f'{{"a":{A},"a":{A}}}', b"\0" * 4, "'a' appears twice"),
    (f'{{"\\ud800":{A}}}', b"\0" * 4, "surrogate"),
    (f'{{"a":{A}}}\0', b"\0" * 4, "not JSON"),
    ('{"__metadata__":{"a":1}}', b"", "must be a string"),
    ('{"__metadata__":{"a":"\\udfff"}}', b"", "must be a string"),
    ('{"__metadata__":[]}', b"", "object of strings"),
    ({"a": 1}, b"", "'a' must be described"),
    ({"a": {}}, b"", "dtype None"),
    ({"a": entry(dtype="F4")}, b"\0" * 4, "dtype 'F4'"),
    ({"a": entry(dtype=["F32"])}, b"\0" * 4, "dtype"),
    ({"a": entry(shape=[-1])}, b"\0" * 4, "shape of integers"),
    ({"a": entry(shape=[1.0])}, b"\0" * 4, "shape of integers"),
    ({"a": entry(shape=[True])}, b"\0" * 4, "shape of integers"),
    ({"a": entry(shape=None)}, b"\0" * 4, "shape of integers"),
    ({"a": entry(shape=[2])}, b"\0" * 4, "needs 8 bytes"),
    ({"a": entry(shape=[2**62, 2**62])}, b"\0" * 4, "can be counted"),
    ({"a": entry(shape=[0, 2**62, 2**62], offsets=(0, 0))}, b"", "can be counted"),
    ({"a": entry(shape=[2**60])}, b"\0" * 4, "needs 4611686018427387904 bytes"),
    ({"a": entry(offsets=(4, 0))}, b"\0" * 4, "data_offsets of two"),
    ({"a": entry(offsets=(0, 4, 8))}, b"\0" * 4, "data_offsets of two"),
    ({"a": entry(offsets=(-4, 0))}, b"\0" * 4, "data_offsets of two"),
    ({"a": entry(), "b": entry(offsets=(2, 6))}, b"\0" * 6, "'b' overlaps tensor 'a'"),
    ({"a": entry(), "b": entry()}, b"\0" * 4, "overlaps"),
    ({"a": entry(), "b": entry(offsets=(6, 10))}, b"\0" * 10, "'b' leaves a hole after tensor 'a'"),
    ({"a": entry(offsets=(1, 5))}, b"\0" * 5, "leaves a hole after the header"),
    ({"a": entry()}, b"\0" * 3, "cut short"),
    ({"a": entry()}, b"\0" * 5, "longer than its header describes"),
    ("{}", b"\0", "longer than its header describes"),
]


@pytest.mark.parametrize("text,data,message", LIES)
def test_lies_are_named(raw_file: Raw, text: object, data: bytes, message: str) -> None:
    with pytest.raises(CheckpointError, match=r"model\.safetensors") as caught:
        read_header(raw_file(text, data))
    assert message in str(caught.value)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("length", [3, 100_000_001, 2**64 - 1, 1000])
def test_length_that_lies(raw_file: Raw, length: int) -> None:
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        read_header(raw_file("{}  ", b"", length=length))


def test_files_that_are_none(tmp_path: Path) -> None:
    for size in range(9):
        (tmp_path / "short.safetensors").write_bytes(b"\0" * size)
        with pytest.raises(CheckpointError, match=r"short\.safetensors"):
            read_header(tmp_path / "short.safetensors")
    os.mkfifo(tmp_path / "pipe.safetensors")
    for name in ("pipe.safetensors", "missing.safetensors", "x" * 300):
        with pytest.raises(CheckpointError):
            read_header(tmp_path / name)
    with pytest.raises(CheckpointError, match="regular file"):
        read_header(tmp_path)


def test_no_torch(make_folder: Callable[..., Path]) -> None:
    folder = make_folder({"a": torch.ones(1)})
    code = (
        "import sys; from pathlib import Path; from biject.checkpoint.source import open_source;"
        "open_source(Path(sys.argv[1]));"
        "bad = {'torch', 'numpy', 'huggingface_hub', 'safetensors'} & set(sys.modules);"
        "sys.exit(f'imported {bad}' if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True)
