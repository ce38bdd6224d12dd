"""`transformers_weights` in config.json: the weights that transformers reads are those that are read here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from biject.checkpoint.source import open_source
from biject.cli.main import main
from biject.errors import CheckpointError
from biject.pretrained import load
from biject.save import save_model
from biject.verify import verify_export
from biject.verify.reference import make_reference

OTHER = "other.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_reference("bert", "seqcls", tmp_path / "model")


def name_weights(folder: Path, name: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "transformers_weights": name}, indent=2))


@pytest.mark.attack("differences that an export does not declare")
def test_other_weights_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import transformers

    tensors = load_file(folder / "model.safetensors")
    tensors["classifier.bias"] += 1
    save_file(tensors, folder / OTHER, metadata={"format": "pt"})
    name_weights(folder, OTHER)
    theirs = transformers.BertForSequenceClassification.from_pretrained(folder, local_files_only=True)
    assert torch.equal(theirs.classifier.bias, tensors["classifier.bias"])
    for call in (open_source, load, verify_export):
        with pytest.raises(CheckpointError, match=r"`transformers_weights` is 'other\.safetensors'"):
            call(folder)
    assert main(["verify-export", str(folder), "--level", "bytes"]) == 2
    assert "but model.safetensors is read here" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../model.safetensors", "adapter_model.bin", "", 5, ["model.safetensors"]])
def test_what_is_no_name_is_refused(name: object, folder: Path) -> None:
    name_weights(folder, name)
    with pytest.raises(CheckpointError, match="transformers_weights"):
        open_source(folder)


@pytest.mark.parametrize("name", [None, "model.safetensors"])
def test_the_file_that_is_read_may_be_named(name: object, folder: Path, tmp_path: Path) -> None:
    name_weights(folder, name)
    model = load(folder)
    save_model(model, tmp_path / "same")
    assert (tmp_path / "same" / "config.json").read_bytes() == (folder / "config.json").read_bytes()
    save_model(model, tmp_path / "cut", max_shard_bytes=20_000)
    assert not json.loads((tmp_path / "cut" / "config.json").read_text()).get("transformers_weights")
    assert verify_export(tmp_path / "cut", source=folder, levels=["bytes", "reload"]).passed
    name_weights(tmp_path / "cut", "model.safetensors.index.json")
    assert load(tmp_path / "cut").dtype == torch.float32
