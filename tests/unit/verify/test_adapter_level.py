"""Levels `stored` and `adapter`: good folders pass, each planted fault is caught, without PEFT it is said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from biject.config.adapter import LoraConfig
from biject.errors import InputError
from biject.pretrained import PretrainedModel, load
from biject.verify import verify_adapter, verify_export
from biject.verify.reference import make_reference

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    top = tmp_path_factory.mktemp("adapters")
    found = {"base": make_reference("bert", "seqcls", top / "base")}
    torch.manual_seed(0)
    model = load(found["base"])
    model.add_adapter(LoraConfig(r=4, lora_alpha=8, init_lora_weights=False))
    model.save_adapter(top / "adapter")
    found["adapter"] = top / "adapter"
    other = load(found["base"])
    with torch.no_grad():
        other.layers[0].mlp.up_proj.weight.mul_(1.01)
    other.save_pretrained(top / "other")
    return {**found, "other": top / "other"}


@pytest.fixture
def folder(places: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(places["adapter"], tmp_path / "adapter"))


def model_of(places: dict[str, Path]) -> PretrainedModel:
    return load(places["adapter"])


def values(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    found = load_file(folder / WEIGHTS)
    change(found)
    save_file(found, folder / WEIGHTS, metadata={"format": "pt"})


def bump(found: dict[str, torch.Tensor]) -> None:
    name = next(name for name in found if "lora_B" in name)
    found[name].view(-1)[0] += 1e-3


def drop(found: dict[str, torch.Tensor]) -> None:
    found.pop(next(name for name in found if "lora_B" in name))


def spoil(found: dict[str, torch.Tensor]) -> None:
    found[next(name for name in found if "lora_A" in name)].view(-1)[3] = float("nan")


def test_a_good_folder_passes_with_its_model_and_without(places: dict[str, Path]) -> None:
    batch = {"input_ids": torch.tensor([[5, 6, 7, 8]]), "labels": torch.tensor([0])}
    model = model_of(places).train()
    report = verify_adapter(model, places["adapter"], batches=[batch])
    assert report.passed, "\n".join(report.lines())
    assert model.training
    checks = report.level("adapter").checks
    assert all(check.max_abs_diff == 0 for check in checks if check.case)
    assert any(check.case == "data 1" for check in checks)
    assert any(check.case.endswith("packed") for check in checks)
    assert report.environment["versions"]["peft"]
    assert verify_export(places["adapter"]).passed


PLANTS: dict[str, Callable[[Path, dict[str, Path]], None]] = {
    "a changed tensor": lambda folder, _: tensors(folder, bump),
    "a missing tensor": lambda folder, _: tensors(folder, drop),
    "NaN": lambda folder, _: tensors(folder, spoil),
    "a wrong alpha": lambda folder, _: values(folder, lora_alpha=9),
    "a wrong rank": lambda folder, _: values(folder, r=3),
    "rsLoRA": lambda folder, _: values(folder, use_rslora=True),
    "fewer targets": lambda folder, _: values(folder, target_modules=["query"]),
    "another base": lambda folder, places: values(folder, base_model_name_or_path=str(places["other"])),
}


@pytest.mark.parametrize("plant", PLANTS)
def test_planted_faults_fail_beside_the_model(plant: str, folder: Path, places: dict[str, Path]) -> None:
    PLANTS[plant](folder, places)
    report = verify_adapter(model_of(places), folder)
    assert not report.passed


@pytest.mark.parametrize("plant", PLANTS)
def test_planted_faults_fail_without_the_model(plant: str, folder: Path, places: dict[str, Path]) -> None:
    """By what biject.json records of the other files and of the base."""
    PLANTS[plant](folder, places)
    assert not verify_export(folder).passed


@pytest.mark.parametrize("plant", ["a changed tensor", "a wrong alpha", "another base"])
def test_the_forward_pass_alone_sees_it(plant: str, folder: Path, places: dict[str, Path]) -> None:
    """Level `adapter` does not lean on level `stored`."""
    PLANTS[plant](folder, places)
    (folder / "biject.json").unlink()
    report = verify_adapter(model_of(places), folder, levels=["adapter"])
    failed = report.level("adapter").failures
    assert any(check.case for check in failed)
    assert any(check.where for check in failed)


def test_without_peft_it_is_not_checked(places: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("biject.verify.peft.find_spec", lambda name: None if name == "peft" else object())
    report = verify_adapter(model_of(places), places["adapter"])
    assert report.passed
    assert report.level("adapter").status == "skipped"
    assert any("NOT CHECKED level adapter: peft not installed" in line for line in report.lines())


def test_levels_and_allowances_of_models_are_wrong_here(places: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="no level bytes of an adapter's folder"):
        verify_export(places["adapter"], levels=["bytes"])
    with pytest.raises(InputError, match="no source to differ from"):
        verify_export(places["adapter"], allow=["cast"])


@pytest.mark.parametrize("method", ["nf4", "int8"])
@pytest.mark.parametrize(("model_type", "head"), [("llama", "causal"), ("gpt2", "base")])
def test_a_quantised_base_has_pefts_bits_on_bitsandbytes(
    model_type: str, head: str, method: str, tmp_path: Path
) -> None:
    model = load(make_reference(model_type, head, tmp_path / "base"), quantization=method)
    model.add_adapter(LoraConfig(r=4, lora_alpha=8, init_lora_weights=False))
    model.save_adapter(tmp_path / "adapter")
    report = verify_adapter(model, tmp_path / "adapter")
    assert report.passed, "\n".join(report.lines())
    again = verify_export(tmp_path / "adapter")  # biject.json says how the base was held
    assert again.passed, "\n".join(again.lines())
    assert again.model["quantization"] == method


@pytest.mark.parametrize("skipped", [None, ["classifier", "query"]])
def test_a_head_beside_codes_is_trained_whole(skipped: list[str] | None, tmp_path: Path) -> None:
    folder = make_reference("bert", "seqcls", tmp_path / "base")
    model = load(folder, quantization="nf4", skip_modules=skipped)
    model.add_adapter(LoraConfig(r=4, init_lora_weights=False))
    model.save_adapter(tmp_path / "adapter")
    for report in (verify_adapter(model, tmp_path / "adapter"), verify_export(tmp_path / "adapter")):
        assert report.passed, "\n".join(report.lines())


def test_a_new_head_is_the_adapters_own(tmp_path: Path) -> None:
    base = make_reference("roberta", "base", tmp_path / "base")
    model = load(base, head="seqcls", new_head={"labels": ["bad", "so-so", "good"]})
    model.add_adapter(LoraConfig(r=4, init_lora_weights=False))
    model.save_adapter(tmp_path / "adapter")
    report = verify_export(tmp_path / "adapter")
    assert report.passed, "\n".join(report.lines())
    assert any("logits" in check.name for check in report.level("adapter").checks)
