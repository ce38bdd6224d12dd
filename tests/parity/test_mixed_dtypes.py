"""A file of several dtypes: what training changed is written to the bit, the rest is left."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from biject.pretrained import PretrainedModel, load
from biject.save import save_model
from biject.verify import verify_export

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


def theirs(folder: Path) -> dict[str, Tensor]:
    """HF's parameters, loaded by its own defaults."""
    import transformers

    name = json.loads((folder / "config.json").read_text())["architectures"][0]
    model = getattr(transformers, name).from_pretrained(folder, local_files_only=True)
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}


def written(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def test_transformers_does_not_round_what_was_trained_in_a_mixed_file(mixed: Path, tmp_path: Path) -> None:
    config = json.loads((mixed / "config.json").read_text()) | {"dtype": "bfloat16"}
    (mixed / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    model = load(mixed)
    save_model(model, tmp_path / "same")
    assert (tmp_path / "same" / "config.json").read_bytes() == (mixed / "config.json").read_bytes()
    train(model, "head.out.weight")
    save_model(model, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "float32"
    assert torch.equal(theirs(tmp_path / "out")["classifier.weight"], model.head.out.weight)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("model_type", ["dinov2", "deit"])
def test_passed_through_tensors_do_not_decide(
    model_type: str, named: bool, reference: Make, tmp_path: Path
) -> None:
    """The mask token stays in float16, and every trained weight comes back from transformers to the bit."""
    folder = reference(model_type, "imgcls", dtype=torch.float16)
    with_mask = {**written(folder)}
    mask = f"{model_type}.embeddings.mask_token"
    with_mask.setdefault(
        mask, torch.zeros(1, 1, with_mask[f"{model_type}.embeddings.cls_token"].shape[-1]).half()
    )
    save_file(with_mask, folder / "model.safetensors", metadata={"format": "pt"})
    if not named:
        config = json.loads((folder / "config.json").read_text())
        config.pop("dtype")
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    model = load(folder, dtype="float32")
    train(model)
    model.save_pretrained(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "float32"
    found, stored = theirs(tmp_path / "out"), written(tmp_path / "out")
    assert stored[mask].dtype == torch.float16
    loaded = [tensor.numpy().tobytes() for tensor in found.values()]  # under names of its own
    assert all(tensor.numpy().tobytes() in loaded for name, tensor in stored.items() if name != mask)
    report = verify_export(tmp_path / "out", source=folder, levels=["bytes"], allow=["cast"])
    config_line = next(check for check in report.level("bytes").checks if check.name == "config.json")
    assert config_line.passed, config_line
    assert verify_export(tmp_path / "out", levels=["reload", "forward", "lint"]).passed
