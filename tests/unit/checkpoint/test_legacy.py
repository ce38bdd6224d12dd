from __future__ import annotations

import json
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from biject.checkpoint.bytes import tensor_bytes
from biject.checkpoint.reader import Reader
from biject.checkpoint.source import open_source
from biject.errors import CheckpointError

Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def make(content: Any, *, zipped: bool = True, file: str = "pytorch_model.bin") -> Path:
        (tmp_path / "config.json").write_text("{}")
        torch.save(content, tmp_path / file, _use_new_zipfile_serialization=zipped)
        return tmp_path

    return make


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors(save: Save, zipped: bool, tensors: dict[str, torch.Tensor]) -> None:
    tensors["turned"] = torch.arange(6.0).reshape(2, 3).T
    tensors["tied"] = tensors["b.weight"]
    tensors["part"] = tensors["ids"][2:4]
    if not zipped:  # torch cannot read newer dtypes from files of the old kind
        tensors = {
            name: t for name, t in tensors.items() if name not in ("u16", "u32", "u64", "a.f8", "a.f8e5")
        }
    content = OrderedDict(tensors, parameter=torch.nn.Parameter(torch.ones(2)))
    source = open_source(save(content, zipped=zipped))
    assert (source.format, source.weight_files, source.headers) == ("bin", ("pytorch_model.bin",), {})
    assert list(source.tensors) == list(content)
    reader = Reader(source)
    for name, tensor in content.items():
        info, found = source.tensors[name], reader.tensor(name)
        assert (found.dtype, found.shape, info.shape) == (tensor.dtype, tensor.shape, tuple(tensor.shape))
        assert tensor_bytes(found) == tensor_bytes(tensor)
        assert (info.start, info.end) == (0, tensor.numel() * tensor.element_size())
        assert not found.requires_grad
    assert reader.tensor("tied").data_ptr() == reader.tensor("b.weight").data_ptr()


def test_mapping_is_private(save: Save) -> None:
    folder = save({"a": torch.ones(4)})
    before = (folder / "pytorch_model.bin").read_bytes()
    Reader(open_source(folder)).tensor("a").zero_()
    assert (folder / "pytorch_model.bin").read_bytes() == before


def test_shards(save: Save) -> None:
    one, two = "pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"
    save({"b": torch.ones(2)}, file=one)
    folder = save({"a": torch.zeros(3)}, file=two)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"a": two, "b": one}}))
    source = open_source(folder)
    assert (source.weight_files, list(source.tensors), source.assets) == ((one, two), ["b", "a"], ())
    assert torch.equal(Reader(source).tensor("a"), torch.zeros(3))


class Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("/nonexistent/biject-was-here"),))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "content,message",
    [
        ({"state_dict": {"a": torch.ones(1)}, "epoch": 3}, "has dictionaries under 'state_dict'"),
        ({"a": torch.ones(1), "epoch": 3}, "'epoch' must be a tensor, but is a int"),
        ([torch.ones(1)], "is a list"),
        (torch.ones(1), "is a Tensor"),
        ({3: torch.ones(1)}, "3 is not a usable tensor name"),
        ({"a": torch.ones(2, 2).to_sparse()}, "dense tensor"),
        ({"a": torch.ones(2, dtype=torch.complex64)}, "complex64"),
        ({"a": torch.ones(1).expand(10**9)}, "expanded view"),
        ({"a": torch.ones(1), "b": Code()}, "could run code"),
        ({"a": torch.empty(2, device="meta")}, "pytorch_model.bin"),
    ],
)
def test_what_is_no_state_dict(save: Save, zipped: bool, content: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin") as caught:
        open_source(save(content, zipped=zipped))
    assert message in str(caught.value)


def test_plain_pickle_and_other_files(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    path = tmp_path / "pytorch_model.bin"
    for content in (
        b"",
        b"PK\x03\x04",
        b"\x80\x02",
        b"nonsense" * 99,
        pickle.dumps({"a": 1}),
        pickle.dumps(Code()),
    ):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"pytorch_model\.bin"):
            open_source(tmp_path)


@pytest.mark.parametrize("zipped", [True, False])
def test_cut_anywhere(save: Save, zipped: bool) -> None:
    folder = save({"a": torch.ones(64), "b": torch.arange(9)}, zipped=zipped)
    path = folder / "pytorch_model.bin"
    content = path.read_bytes()
    for size in range(0, len(content) - 1, max(1, len(content) // 40)):
        path.write_bytes(content[:size])
        with pytest.raises(CheckpointError, match=r"pytorch_model\.bin"):
            open_source(folder)


def test_compressed_archive_is_refused(save: Save) -> None:
    folder = save({"a": torch.zeros(100_000)})
    path = folder / "pytorch_model.bin"
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in records.items():
            archive.writestr(name, data)
    with pytest.raises(CheckpointError, match="compressed"):
        open_source(folder)


def test_pickle_that_claims_too_much(save: Save) -> None:
    """The count of a storage's elements in the pickle is raised; the data stay."""
    folder = save({"a": torch.zeros(77, dtype=torch.uint8)})
    path = folder / "pytorch_model.bin"
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in records.items():
            claimed = data.replace(b"K\x4d", b"J\xff\xff\xff\x7f") if name.endswith("data.pkl") else data
            archive.writestr(name, claimed)
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin"):
        open_source(folder)
