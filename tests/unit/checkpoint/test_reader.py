from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from biject.checkpoint.bytes import tensor_bytes
from biject.checkpoint.reader import Reader
from biject.checkpoint.source import open_source
from biject.errors import CheckpointError

Make = Callable[..., Path]


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and tensor_bytes(a) == tensor_bytes(b)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_equal_to_the_library(make_folder: Make, tensors: dict[str, torch.Tensor]) -> None:
    folder = make_folder(tensors)
    reader, expected = Reader(open_source(folder)), load_file(folder / "model.safetensors")
    for name in tensors:
        found = reader.tensor(name)
        assert same(found, expected[name])
        assert found.is_contiguous()
        assert not found._is_view()
        assert found.stride() == expected[name].stride() or found.numel() == 0


def test_one_mapping_without_copies(make_folder: Make) -> None:
    folder = make_folder({"a": torch.ones(3, 4, 5), "b": torch.zeros(6)})
    reader = Reader(open_source(folder))
    a, b = reader.tensor("a"), reader.tensor("b")
    assert a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()
    before = (folder / "model.safetensors").read_bytes()
    a.add_(1)
    assert reader.tensor("a")[0, 0, 0] == 2
    assert (folder / "model.safetensors").read_bytes() == before


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory_until_touched(raw_file: Callable[..., Path]) -> None:
    count = 64 << 20
    path = raw_file({"a": {"dtype": "U8", "shape": [count], "data_offsets": [0, count]}})
    os.truncate(path, path.stat().st_size + count)  # a hole on disk
    source = open_source(path.parent)
    Reader(source).tensor("a")[:1].sum()
    before = resident_bytes()
    tensor = Reader(source).tensor("a")
    assert resident_bytes() - before < 4 << 20
    del tensor


@pytest.mark.parametrize("padding", range(8))
def test_unaligned_data(raw_file: Callable[..., Path], padding: int) -> None:
    values = torch.arange(4, dtype=torch.float64)
    entry = '{"a":{"dtype":"F64","shape":[2,2],"data_offsets":[0,32]}}' + " " * padding
    reader = Reader(open_source(raw_file(entry, bytes(tensor_bytes(values))).parent))
    assert same(reader.tensor("a"), values.reshape(2, 2))


def test_unknown_name_and_changed_file(make_folder: Make) -> None:
    folder = make_folder({"a": torch.ones(4)})
    source = open_source(folder)
    with pytest.raises(CheckpointError, match="no tensor 'b'"):
        Reader(source).tensor("b")
    path = folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"a"', b'"c"'))
    with pytest.raises(CheckpointError, match="has changed"):
        Reader(source).tensor("a")
    path.write_bytes(content[:-1])
    with pytest.raises(CheckpointError, match="has changed"):
        Reader(source).tensor("a")
    path.unlink()
    with pytest.raises(CheckpointError, match="missing"):
        Reader(source).tensor("a")


def test_bytes_of_any_tensor() -> None:
    grid = torch.arange(6, dtype=torch.int16).reshape(2, 3)
    assert bytes(tensor_bytes(grid.T)) == bytes(tensor_bytes(grid.T.contiguous()))
    assert bytes(tensor_bytes(torch.empty(0, 3))) == b""
    assert bytes(tensor_bytes(torch.tensor(1.0, dtype=torch.bfloat16))) == b"\x80\x3f"
    assert bytes(tensor_bytes(torch.nn.Parameter(torch.zeros(2)))) == b"\0" * 8
    assert len(tensor_bytes(torch.zeros(1).expand(5))) == 20
