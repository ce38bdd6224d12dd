"""Names of checkpoints: folders, repositories, and neither. Downloads: tests/hub."""

from __future__ import annotations

from pathlib import Path

import pytest

from biject.checkpoint.folder import needed_files
from biject.checkpoint.hub import resolve_folder
from biject.errors import CheckpointError, InputError

ASSETS = ["README.md", "config.json", "vocab.txt", "1_Pooling/config.json"]
OTHERS = ["tf_model.h5", "flax_model.msgpack", "onnx/model.onnx", "model.fp16.safetensors"]


@pytest.mark.parametrize(
    ("weights", "left"),
    [
        (["model.safetensors"], ["pytorch_model.bin", *OTHERS]),
        (["pytorch_model.bin"], OTHERS),
        (
            [
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "model.safetensors.index.json",
            ],
            ["pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json", *OTHERS],
        ),
        (["pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json"], OTHERS),
    ],
)
def test_one_format_of_weights_is_wanted(weights: list[str], left: list[str]) -> None:
    assert needed_files([*ASSETS, *weights, *left]) == [*ASSETS, *weights]


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    assert resolve_folder(tmp_path) == tmp_path
    assert resolve_folder(str(tmp_path)) == tmp_path


def test_a_folder_has_no_revision(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="revision 'main'"):
        resolve_folder(tmp_path, revision="main")


@pytest.mark.parametrize("name", ["./nothing", "/nothing/at/all", "a/b/c", "../x", "", Path("nothing")])
def test_what_cannot_be_a_repository_is_a_missing_folder(
    name: str | Path, monkeypatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="does not exist"):
        resolve_folder(name)
