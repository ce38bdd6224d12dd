"""The proof of such a run can fail: faults planted in an export are found, each by its level."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.fallback.test_adapters import adapted
from tests.fallback.test_runs import run

import biject
from biject.cli.main import main
from biject.runs import push as pushing
from biject.verify.fallback import verify_fallback

pytestmark = pytest.mark.filterwarnings("ignore::biject.errors.BijectWarning")


def tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    found = load_file(folder / "model.safetensors")
    change(found)
    save_file(found, folder / "model.safetensors", metadata={"format": "pt"})


def one_bit(found: dict[str, torch.Tensor]) -> None:
    found["roformer.encoder.layer.1.attention.self.query.weight"].view(torch.int32)[0, 0] ^= 1


def swapped(found: dict[str, torch.Tensor]) -> None:
    a, b = (f"roformer.encoder.layer.0.attention.self.{name}.weight" for name in ("query", "key"))
    found[a], found[b] = found[b], found[a]


def config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a bit": (lambda f: tensors(f, one_bit), "trained"),
    "q and k swapped": (lambda f: tensors(f, swapped), "trained"),
    "a tensor is gone": (lambda f: tensors(f, lambda t: t.pop("classifier.bias")), "reload"),
    "one too many": (lambda f: tensors(f, lambda t: t.update(other=torch.zeros(2))), "reload"),
    "another shape": (
        lambda f: tensors(f, lambda t: t.update({"classifier.bias": torch.zeros(7)})),
        "reload",
    ),
    "another class": (lambda f: config(f, architectures=["RoFormerForMaskedLM"]), "reload"),
    "another epsilon": (lambda f: config(f, layer_norm_eps=1e-3), "trained"),
    "another activation": (lambda f: config(f, hidden_act="relu"), "trained"),
    "no rotary values": (lambda f: config(f, rotary_value=False), "trained"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str, checkpoint: Any, tmp_path: Path) -> None:
    model = biject.AutoModelForTokenClassification.from_pretrained(
        checkpoint("roformer"), backend="hf", num_labels=3
    )
    model.save_pretrained(tmp_path / "good")
    assert verify_fallback(model, tmp_path / "good").passed
    shutil.copytree(tmp_path / "good", tmp_path / "bad")
    plant, level = FAULTS[fault]
    plant(tmp_path / "bad")
    report = verify_fallback(model, tmp_path / "bad")
    assert not report.passed
    failed = {one.name for one in report.levels if one.status == "fail"}
    assert level in failed


def test_an_adapter_with_another_bit_is_found(checkpoint: Any, tmp_path: Path) -> None:
    model = adapted(checkpoint("gpt_neox"))
    model.save_adapter(tmp_path / "a")
    assert verify_fallback(model, tmp_path / "a").passed
    found = load_file(tmp_path / "a" / "adapter_model.safetensors")
    first = next(name for name in found if "lora_B" in name)
    found[first].view(torch.int32)[0, 0] ^= 1
    save_file(found, tmp_path / "a" / "adapter_model.safetensors", metadata={"format": "pt"})
    assert not verify_fallback(model, tmp_path / "a").passed


def test_the_model_is_left_as_it_was(checkpoint: Any, tmp_path: Path) -> None:
    model = biject.AutoModelForMaskedLM.from_pretrained(checkpoint("roformer"), backend="hf").train()
    model.save_pretrained(tmp_path / "out")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert verify_fallback(model, tmp_path / "out").passed
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_folder_is_proved_by_itself(checkpoint: Any, tmp_path: Path, capsys: Any) -> None:
    model = biject.AutoModelForTokenClassification.from_pretrained(
        checkpoint("roformer"), backend="hf", num_labels=3
    )
    model.save_pretrained(tmp_path / "good")
    assert main(["verify-export", str(tmp_path / "good"), "--backend", "hf"]) == 0
    assert "pass: reload, forward" in capsys.readouterr().out
    assert main(["verify-export", str(tmp_path / "good"), "--backend", "hf", "--source", "x"]) == 2
    tensors(tmp_path / "good", lambda found: found.pop("classifier.bias"))
    assert main(["verify-export", str(tmp_path / "good"), "--backend", "hf"]) == 1
    config(tmp_path / "good", model_type="own")
    assert main(["verify-export", str(tmp_path / "good"), "--backend", "hf"]) == 2
    with_adapter = adapted(checkpoint("gpt_neox"))
    with_adapter.save_adapter(tmp_path / "adapter")
    assert main(["verify-export", str(tmp_path / "adapter"), "--backend", "hf"]) == 0


def test_a_run_is_pushed_with_its_own_proof(
    checkpoint: Any, write_data: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    sent: list[Path] = []
    monkeypatch.setattr(pushing, "upload", lambda folder, repo, **options: sent.append(folder) or "address")
    done, _ = run(tmp_path, checkpoint("mpnet"), write_data(tmp_path / "data", "seqcls"), "seqcls")
    pushed = pushing.push(done.folder, "me/model")
    assert sent == [done.folder / "model"]
    assert pushed.report is not None
    assert [level.name for level in pushed.report.levels] == ["reload", "forward"]
    tensors(done.folder / "model", lambda found: found.pop("classifier.dense.bias"))
    assert pushing.push(done.folder, "me/model").url == ""
    assert len(sent) == 1
