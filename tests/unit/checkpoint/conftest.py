"""Small checkpoint folders, made on the spot."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def tensors() -> Tensors:
    """Every dtype, a scalar, an empty tensor, odd names and special values."""
    generator = torch.Generator().manual_seed(7)
    weight = torch.randn(5, 3, generator=generator)
    weight[0, :3] = torch.tensor([float("nan"), float("-inf"), -0.0])
    return {
        "b.weight": weight,
        "a.f64": weight.double(),
        "a.f16": weight.half(),
        "a.bf16": weight.bfloat16(),
        "a.f8": weight.to(torch.float8_e4m3fn),
        "a.f8e5": weight.to(torch.float8_e5m2),
        "ids": torch.arange(7),
        "i32": torch.arange(3, dtype=torch.int32),
        "i16": torch.arange(3, dtype=torch.int16),
        "i8": torch.arange(-1, 2, dtype=torch.int8),
        "u8": torch.arange(3, dtype=torch.uint8),
        "u16": torch.tensor([1, 2, 3], dtype=torch.uint16),
        "u32": torch.tensor([1, 2, 3], dtype=torch.uint32),
        "u64": torch.tensor([1, 2, 3], dtype=torch.uint64),
        "mask": torch.tensor([True, False, True]),
        "scalar": torch.tensor(2.5),
        "empty": torch.empty(0, 4),
        'größe "q"\n\x01': torch.ones(1),
    }


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write a folder with a config and one safetensors file."""

    def make(
        tensors: Mapping[str, torch.Tensor], *, name: str = "source", metadata: dict[str, str] | None = None
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_bytes(b'{"model_type":"bert",  "x": 1}')
        save_file(dict(tensors), folder / "model.safetensors", metadata=metadata)
        return folder

    return make


@pytest.fixture
def raw_file(tmp_path: Path) -> Callable[..., Path]:
    """Write a folder whose safetensors file has just this header text and this data."""

    def make(text: str | bytes | dict[str, object], data: bytes = b"", *, length: int | None = None) -> Path:
        folder = tmp_path / "raw"
        folder.mkdir(exist_ok=True)
        header = json.dumps(text).encode() if isinstance(text, dict) else text
        header = header.encode() if isinstance(header, str) else header
        count = len(header) if length is None else length
        path = folder / "model.safetensors"
        path.write_bytes(count.to_bytes(8, "little") + header + data)
        (folder / "config.json").write_text("{}")
        return path

    return make


@pytest.fixture
def make_sharded(tmp_path: Path) -> Callable[..., Path]:
    """Write a folder of two shards; the index is compact, and its map can be replaced."""

    def make(weight_map: dict[str, object] | None = None) -> Path:
        folder = tmp_path / "sharded"
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        one, two = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
        save_file({"z": torch.arange(4.0), "b": torch.ones(2, 3)}, folder / one, metadata={"format": "pt"})
        save_file({"a": torch.arange(6)}, folder / two)
        index = {"weight_map": weight_map or {"a": two, "z": one, "b": one}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, separators=(",", ":")))
        return folder

    return make
