"""Adapters whose tensors claim sizes that they do not have: one error, and nothing of those sizes is made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from biject.cli.main import main
from biject.config.adapter import LoraConfig
from biject.errors import BijectError, CheckpointError, WeightsError
from biject.inspect_adapter import inspect_adapter
from biject.pretrained import load
from biject.verify.reference import make_reference

pytestmark = pytest.mark.attack("adapters' folders")

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
HEAD = "base_model.model.classifier.weight"


@pytest.fixture(scope="module")
def unrecorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier's adapter as PEFT writes it, on a base that has no such head."""
    top = tmp_path_factory.mktemp("shapes")
    base = make_reference("bert", "base", top / "base")
    with pytest.warns(UserWarning, match="New, randomly"):
        model = load(base, head="seqcls", new_head={"labels": ["no", "yes"]})
    model.add_adapter(LoraConfig(r=4, init_lora_weights=False))
    model.save_adapter(top / "adapter")
    (top / "adapter" / "biject.json").unlink()
    return top / "adapter"


@pytest.fixture
def folder(unrecorded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(unrecorded, tmp_path / "adapter"))


def put(folder: Path, **tensors: torch.Tensor) -> None:
    """Replace tensors, or add them."""
    found = load_file(folder / WEIGHTS)
    save_file({**found, **tensors}, folder / WEIGHTS, metadata={"format": "pt"})


def rank(folder: Path, value: int) -> None:
    path = folder / CONFIG
    path.write_text(json.dumps({**json.loads(path.read_text()), "r": value}))


def refused(folder: Path, kind: type[BijectError], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(kind, match=says):
        load(folder)
    assert main(["merge", "--adapter", str(folder), "--out", str(folder.parent / "out")]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_the_folder_itself_is_good(folder: Path) -> None:
    with pytest.warns(UserWarning, match="LABEL_0"):
        assert load(folder).id2label == {0: "LABEL_0", 1: "LABEL_1"}


@pytest.mark.parametrize(
    ("shape", "kind", "says"),
    [
        ((2**40, 0), CheckpointError, "has no numbers"),
        ((0, 32), CheckpointError, "has no numbers"),
        ((), WeightsError, "should be a matrix"),
        ((5,), WeightsError, "should be a matrix"),
        ((2**16, 1), WeightsError, "32 columns or more"),
        ((2, 32, 1), WeightsError, "should be a matrix"),
    ],
)
def test_classes_that_no_matrix_has(
    shape: tuple[int, ...], kind: type[BijectError], says: str, folder: Path, capsys
) -> None:
    put(folder, **{HEAD: torch.zeros(shape)})
    refused(folder, kind, says, capsys)


@pytest.mark.parametrize("name", ["strange.lora_A.weight", "bert.encoder.layer.0.lora_B.weight"])
def test_a_rank_without_numbers(name: str, folder: Path, capsys) -> None:
    put(folder, **{f"base_model.model.{name}": torch.zeros(2**31 - 1, 0)})
    rank(folder, 2**31 - 1)
    refused(folder, CheckpointError, "has no numbers", capsys)
    assert not inspect_adapter(folder).usable


def test_a_rank_of_one_column(folder: Path, capsys) -> None:
    """A file of a megabyte asked for a hundred times as much memory."""
    put(folder, **{"base_model.model.strange.lora_A.weight": torch.zeros(2**18, 1)})
    rank(folder, 2**18)
    refused(folder, WeightsError, "its rank is 262144 for", capsys)


def test_a_pickle_without_numbers(folder: Path, capsys) -> None:
    found = load_file(folder / WEIGHTS)
    torch.save({**found, HEAD: torch.zeros(2**40, 0)}, folder / "adapter_model.bin")
    (folder / WEIGHTS).unlink()
    refused(folder, CheckpointError, "has no numbers", capsys)
