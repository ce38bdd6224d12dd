from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from biject.checkpoint.source import open_source
from biject.errors import BijectWarning, CheckpointError

Make = Callable[..., Path]
ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def test_what_lies_where(make_folder: Make) -> None:
    folder = make_folder({"a": torch.ones(2)})
    other = [
        "pytorch_model.bin",
        "tf_model.h5",
        "flax_model.msgpack",
        "rust_model.ot",
        "onnx/model.onnx",
        "q.gguf",
    ]
    other += ["model.fp16.safetensors", "openvino/model.xml", "onnx/config.json"]
    other += ["optimizer.pt", "rng_state_0.pth", "scheduler.pt", "training_args.bin"]
    other += ["checkpoint-500/config.json", "checkpoint-500/model.safetensors", "checkpoint-500/a/b.bin"]
    assets = [
        ".gitattributes",
        "vocab.txt",
        "1_Pooling/config.json",
        "2_Dense/model.safetensors",
        "checkpoint-best/model.safetensors",
    ]
    for name in [*other, *assets, ".git/HEAD", ".cache/x", "a/__pycache__/y"]:
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(b"x")
    source = open_source(folder)
    assert (source.format, source.weight_files, source.index_file) == (
        "safetensors",
        ("model.safetensors",),
        None,
    )
    assert source.other_weights == tuple(sorted(other))
    assert source.assets == tuple(sorted(assets))
    assert source.config == {"model_type": "bert", "x": 1}
    assert source.config_bytes == (folder / "config.json").read_bytes()
    assert list(source.headers) == ["model.safetensors"]


def test_links(make_folder: Make, tmp_path: Path) -> None:
    folder = make_folder({"a": torch.ones(2)})
    blob = tmp_path / "blob"
    (folder / "model.safetensors").rename(blob)
    (folder / "model.safetensors").symlink_to(blob)
    (folder / "vocab.txt").symlink_to(blob)
    (folder / "nowhere").symlink_to(tmp_path / "gone")
    (folder / "elsewhere").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    with pytest.warns(BijectWarning) as caught:
        source = open_source(folder)
    assert source.assets == ("vocab.txt",)
    assert sorted(str(warning.message).split(" ")[0] for warning in caught) == [
        "'elsewhere'",
        "'model.safetensors'",  # outside the folder, and not in the Hub's cache
        "'nowhere'",
        "'pipe'",
        "'vocab.txt'",
    ]


def test_shards(make_sharded: Make) -> None:
    source = open_source(make_sharded())
    assert source.weight_files == (ONE, TWO)
    assert {name: info.file for name, info in source.tensors.items()} == {"b": ONE, "z": ONE, "a": TWO}
    assert source.assets == ()
    assert source.index_bytes is not None
    assert source.index_bytes.startswith(b'{"weight_map":{"a"')


def test_single_file_wins_and_the_rest_is_other(make_sharded: Make) -> None:
    folder = make_sharded()
    save_file({"a": torch.ones(1)}, folder / "model.safetensors")
    source = open_source(folder)
    assert list(source.tensors) == ["a"]
    assert source.other_weights == (ONE, TWO, "model.safetensors.index.json")


@pytest.mark.parametrize(
    "weight_map,message",
    [
        ({"a": TWO, "z": ONE, "b": ONE, "ghost": TWO}, "'ghost'.*no shard has it"),
        ({"a": ONE, "z": ONE, "b": ONE}, "'a' in model-00001.*no shard has it"),
        ({"a": ONE, "z": ONE, "b": TWO}, "'a' in model-00001.*it is in model-00002"),
        ({"a": TWO, "z": ONE}, "'b', which model.safetensors.index.json does not name"),
        ({"a": TWO, "z": ONE, "b": "model-00003.safetensors"}, "model-00003.safetensors is missing"),
        ({"a": "../sharded/" + TWO}, "plain name"),
        ({"a": "/etc/passwd"}, "plain name"),
        ({"a": "..\\x"}, "plain name"),
        ({"a": ".."}, "plain name"),
        ({"a": "x\0"}, "plain name"),
        ({"a": 3}, "plain name"),
        ({"a": "\ud800"}, "plain name"),
    ],
)
def test_index_that_lies(make_sharded: Make, weight_map: dict[str, object], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        open_source(make_sharded(weight_map))


def test_twice_in_two_shards(make_sharded: Make) -> None:
    folder = make_sharded()
    save_file({"a": torch.arange(6), "b": torch.ones(2, 3)}, folder / TWO)
    with pytest.raises(CheckpointError, match="'b' is in two shards"):
        open_source(folder)


@pytest.mark.parametrize(
    "index", ["{}", "[]", '{"weight_map":{}}', '{"weight_map":[]}', '{"weight_map":{"a":"x","a":"x"}}']
)
def test_index_that_is_none(make_sharded: Make, index: str) -> None:
    folder = make_sharded()
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(CheckpointError, match=r"index\.json"):
        open_source(folder)


@pytest.mark.parametrize(
    "config,message",
    [
        (b"[]", "it is a list"),
        (b"", "not JSON"),
        (b'{"a":1,"a":2}', "'a' appears twice"),
        (b'{"a":{"b":1,"b":2}}', "'b' appears twice"),
        (b'{"a":NaN}', "NaN"),
        (b'{"a":-Infinity}', "Infinity"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b'{"a":"\xff"}', "not UTF-8"),
        (b'{"a":' * 100_000, "nested too deeply"),
    ],
)
def test_config_that_is_none(make_folder: Make, config: bytes, message: str) -> None:
    folder = make_folder({"a": torch.ones(1)})
    (folder / "config.json").write_bytes(config)
    with pytest.raises(CheckpointError, match=r"config\.json") as caught:
        open_source(folder)
    assert message in str(caught.value)


def test_folders_that_are_none(make_folder: Make, tmp_path: Path) -> None:
    folder = make_folder({"a": torch.ones(1)})
    (folder / "model.safetensors").rename(folder / "tf_model.h5")
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors.*found weights of another kind: 'tf_model.h5'"
    ):
        open_source(folder)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        open_source(folder)
    with pytest.raises(CheckpointError, match="is a file"):
        open_source(folder / "tf_model.h5")
    for name in ("gone", "x" * 5000, "a\0b"):
        with pytest.raises(CheckpointError):
            open_source(tmp_path / name)
