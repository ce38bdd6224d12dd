"""A file of several dtypes: what training changed is written to the bit, what it did not change as it came."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from biject.pretrained import PretrainedModel, load
from biject.save import save_model

Make = Callable[..., Path]
pytestmark = pytest.mark.filterwarnings("ignore:The file mixes")


@pytest.fixture
def mixed(reference: Make) -> Path:
    """Norms in float32, the rest in bfloat16."""
    folder = reference("bert", "seqcls")
    path = folder / "model.safetensors"
    tensors = {n: t if "LayerNorm" in n else t.bfloat16() for n, t in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})
    return folder


def train(model: PretrainedModel, *names: str) -> None:
    """Values that no half precision has, as a step gives them; of all parameters where none is named."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not names or name in names:
                parameter.add_(1e-5).mul_(1 + 2**-20)


def values(model: PretrainedModel) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_trained_weights_are_not_rounded(mixed: Path, tmp_path: Path) -> None:
    model = load(mixed)
    train(model)
    saved = save_model(model, tmp_path / "out")
    assert same(values(load(tmp_path / "out")), values(model))
    assert any(line.startswith("cast to float32") for line in saved.changes)


def test_what_was_not_trained_keeps_its_dtype(mixed: Path, tmp_path: Path) -> None:
    model = load(mixed)
    train(model, "head.out.weight")
    save_model(model, tmp_path / "out")
    assert same(values(load(tmp_path / "out")), values(model))
    before, after = (load_file(folder / "model.safetensors") for folder in (mixed, tmp_path / "out"))
    assert [name for name in before if before[name].dtype != after[name].dtype] == ["classifier.weight"]
    assert all(torch.equal(before[name], after[name]) for name in before if name != "classifier.weight")
