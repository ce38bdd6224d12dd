"""A Hub of our own for every test; `huggingface_hub` in this process is pointed at it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants, file_download
from huggingface_hub.utils import _http

from .server import HubServer


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """A running server without repositories."""
    with HubServer().running() as server:
        yield server


@pytest.fixture
def client(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point this process at the server; the cache's folder. (The library reads its settings once.)"""
    cache = tmp_path / "hub-cache"
    template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(_http.time, "sleep", lambda seconds: None)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return cache


def model_files(fill: bytes = b"\1") -> dict[str, bytes]:
    """A made-up repository: weights in five formats, a trainer's state, a tokenizer, a README, assets."""
    header = json.dumps({"a": {"dtype": "U8", "shape": [9000], "data_offsets": [0, 9000]}}).encode()
    return {
        ".gitattributes": b"*.bin filter=lfs",
        "README.md": b"# A model\n",
        "config.json": b'{"model_type": "bert"}',
        "vocab.txt": b"[PAD]\n[UNK]\n",
        "1_Pooling/config.json": b"{}",
        "odd [name] *.txt": b"brackets",
        "model.safetensors": len(header).to_bytes(8, "little") + header + fill * 9000,
        "pytorch_model.bin": b"pickle" * 100,
        "tf_model.h5": b"tensorflow" * 100,
        "flax_model.msgpack": b"flax" * 100,
        "onnx/model.onnx": b"onnx" * 100,
        "optimizer.pt": b"moments" * 100,
        "training_args.bin": b"pickle" * 100,
        "checkpoint-500/config.json": b"{}",
        "checkpoint-500/model.safetensors": b"weights" * 100,
    }


WANTED = {
    ".gitattributes",
    "README.md",
    "config.json",
    "vocab.txt",
    "1_Pooling/config.json",
    "odd [name] *.txt",
    "model.safetensors",
}
