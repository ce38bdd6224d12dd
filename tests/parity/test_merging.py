"""Merges with a receipt: PEFT's bits, folders that transformers loads, and bad merges that are found out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import biject.adapters.merge as merging
from biject.config.adapter import LoraConfig
from biject.errors import BijectError, ConfigError, InputError
from biject.export import export_checkpoint
from biject.merging.merge import check_merge, merge
from biject.nn.lora_part import LoraPart
from biject.pretrained import PretrainedModel, load
from biject.quantize import quantised_linears
from biject.verify import verify_export
from biject.verify.compare import hf_names
from biject.verify.reference import make_reference
from parity.harness import hf_model


def adapter_on(
    base: Path, folder: Path, *, seed: int = 0, config: dict[str, Any] | None = None, **options
) -> Path:
    torch.manual_seed(seed)
    model = load(base, **options)
    model.add_adapter(LoraConfig(**{"r": 4, "lora_alpha": 8, "init_lora_weights": False, **(config or {})}))
    model.save_adapter(folder)
    return folder


def values(folder: Path, **changes: Any) -> Path:
    """The same adapter, changed behind Biject's back."""
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    (folder / "biject.json").unlink(missing_ok=True)
    return folder


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("merging")
    adapter_on(make_reference("llama", "causal", place / "base"), place / "adapter")
    adapter_on(make_reference("bert", "seqcls", place / "bert"), place / "classifier")
    adapter_on(place / "base", place / "qlora", quantization="nf4")
    merge(place / "adapter", place / "merged")
    other = load(place / "base")
    with torch.no_grad():
        for layer in other.layers:
            layer.mlp.up_proj.weight.mul_(1.5)
    other.save_pretrained(place / "other")
    return place


def parameters(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load(folder).named_parameters())


def as_peft_merges(base: Path, adapter: Path, dtype: torch.dtype) -> tuple[PretrainedModel, Any]:
    import peft

    ours = load(base, head="auto", dtype=dtype)
    theirs = hf_model(base, ours, dtype=dtype)
    return ours, peft.PeftModel.from_pretrained(theirs, adapter).merge_and_unload()


@pytest.mark.parametrize(
    ("model_type", "head", "dtype"),
    [
        ("llama", "causal", "float32"),
        ("bert", "seqcls", "bfloat16"),
        ("gpt2", "causal", "float16"),
        pytest.param("llama", "causal", "bfloat16", marks=pytest.mark.slow),
        pytest.param("modernbert", "mlm", "float32", marks=pytest.mark.slow),
        pytest.param("mistral", "seqcls", "float16", marks=pytest.mark.slow),
        pytest.param("deberta-v2", "qa", "bfloat16", marks=pytest.mark.slow),
        pytest.param("qwen3", "causal", "bfloat16", marks=pytest.mark.slow),
    ],
)
def test_the_folder_holds_pefts_bits_and_transformers_loads_it(
    model_type: str, head: str, dtype: str, tmp_path: Path
) -> None:
    base = make_reference(model_type, head, tmp_path / "float32")
    if dtype != "float32":
        export_checkpoint(base, out=tmp_path / "base", dtype=dtype)
        base = tmp_path / "base"
    adapter = adapter_on(base, tmp_path / "adapter")
    receipt = merge(adapter, tmp_path / "merged")
    assert receipt.passed, receipt.lines()
    assert receipt.dtype == dtype
    ours, theirs = as_peft_merges(base, adapter, getattr(torch, dtype))
    named = dict(theirs.named_parameters(remove_duplicate=False))
    merged = parameters(tmp_path / "merged")
    for memory, found in hf_names(ours, theirs).items():
        assert torch.equal(merged[memory], named[found[0]]), memory
    report = verify_export(tmp_path / "merged", source=base)
    assert report.passed, "\n".join(report.lines())
    tensors = next(check for check in report.level("bytes").checks if check.name == "tensors")
    assert "an adapter was merged into" in tensors.detail
    assert report.level("hf-forward").status == "skipped"
    assert {path.name for path in base.iterdir()} <= {path.name for path in (tmp_path / "merged").iterdir()}
    written = json.loads((tmp_path / "merged" / "merge_receipt.json").read_text())
    assert written["passed"] is True
    assert "model.safetensors" in written["files"]
    assert check_merge(tmp_path / "merged", adapter).passed


def test_an_undeclared_change_beside_the_merge_is_a_difference(top: Path, tmp_path: Path) -> None:
    model = load(top / "merged")
    with torch.no_grad():
        model.final_norm.weight.add_(0.1)
    model.save_pretrained(tmp_path / "changed")
    report = verify_export(tmp_path / "changed", source=top / "base", levels=["bytes"])
    assert not report.passed


@pytest.mark.parametrize("mode", [{"use_dora": True}, {"use_rslora": True}, {"bias": "all"}])
def test_other_modes_pass(mode: dict[str, Any], tmp_path: Path) -> None:
    base = make_reference("bert", "tokcls", tmp_path / "base")
    receipt = merge(adapter_on(base, tmp_path / "adapter", config=mode), tmp_path / "merged")
    assert receipt.passed, receipt.lines()


def test_a_head_of_the_adapters_own_comes_along(tmp_path: Path) -> None:
    base = make_reference("bert", "base", tmp_path / "base")
    adapter = adapter_on(base, tmp_path / "adapter", head="seqcls", new_head={"labels": ["no", "yes"]})
    receipt = merge(adapter, tmp_path / "merged", texts=["a fox", "a dog"], labels=["yes", "no"])
    assert receipt.passed, receipt.lines()
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert config["id2label"] == {"0": "no", "1": "yes"}
    report = verify_export(tmp_path / "merged", source=base)
    assert report.passed, "\n".join(report.lines())
    assert receipt.results["original"].accuracy is not None


# Bad merges


@pytest.mark.parametrize("factor", [2.0, 1.1, 0.0, -1.0])
def test_wrong_scaling_fails(
    factor: float, top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = LoraPart.delta
    monkeypatch.setattr(LoraPart, "delta", lambda part: right(part) * factor)
    receipt = merge(top / "adapter", tmp_path / "merged")
    assert not receipt.passed
    assert "this is not the adapter on its base" in receipt.problems[0]
    assert json.loads((tmp_path / "merged" / "merge_receipt.json").read_text())["passed"] is False


def test_a_merge_with_another_alpha_fails(top: Path, tmp_path: Path) -> None:
    wrong = values(Path(shutil.copytree(top / "adapter", tmp_path / "wrong")), lora_alpha=12)
    assert merge(wrong, tmp_path / "merged").passed  # by itself it is one adapter of many
    receipt = check_merge(tmp_path / "merged", top / "adapter")
    assert not receipt.passed
    assert receipt.results["original"].ratio > 0.1


def test_settings_that_were_changed_are_refused(top: Path, tmp_path: Path) -> None:
    wrong = Path(shutil.copytree(top / "adapter", tmp_path / "wrong"))
    record = (wrong / "biject.json").read_bytes()
    values(wrong, lora_alpha=12)
    (wrong / "biject.json").write_bytes(record)
    with pytest.raises(ConfigError, match=r"adapter_config\.json was changed since"):
        merge(wrong, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_another_base_is_refused_by_record_name_and_shape(top: Path, tmp_path: Path) -> None:
    with pytest.raises(BijectError, match="weights are others"):
        merge(top / "adapter", tmp_path / "merged", base=top / "other")
    unrecorded = values(Path(shutil.copytree(top / "adapter", tmp_path / "unrecorded")))
    with pytest.raises(ConfigError, match=r"names the base .* whose weights are others"):
        merge(unrecorded, tmp_path / "merged", base=top / "other")
    unnamed = values(unrecorded, base_model_name_or_path="org/nowhere")
    with pytest.raises(BijectError, match=r"fits nothing|does not fit|head"):
        merge(unnamed, tmp_path / "merged", base=top / "bert")
    assert not (tmp_path / "merged").exists()
    shutil.copytree(top / "other", tmp_path / "elsewhere")
    receipt = merge(unnamed, tmp_path / "merged", base=tmp_path / "elsewhere")
    assert any("is the base that the adapter names" in one for one in receipt.not_checked)
    receipt = check_merge(tmp_path / "merged", top / "adapter")  # against the right base, it shows
    assert not receipt.passed


def test_merged_twice_is_refused_and_fails(top: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        merge(top / "adapter", tmp_path / "twice", base=top / "merged")
    unrecorded = values(
        Path(shutil.copytree(top / "adapter", tmp_path / "unrecorded")),
        base_model_name_or_path=str(top / "merged"),
    )
    merge(unrecorded, tmp_path / "twice")  # nothing in it says what it is
    receipt = check_merge(tmp_path / "twice", top / "adapter")
    assert not receipt.passed
    assert receipt.results["original"].ratio > 0.5


def test_merged_twice_by_the_bases_record(top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("biject.adapters.load.weights_fingerprint", lambda source: "same")
    monkeypatch.setattr("biject.merging.merge.weights_fingerprint", lambda source: "same")
    with pytest.raises(ConfigError, match="has this adapter in it already"):
        merge(top / "adapter", tmp_path / "twice", base=top / "merged")


def test_qlora_is_merged_into_what_its_codes_stand_for(top: Path, tmp_path: Path) -> None:
    receipt = merge(top / "qlora", tmp_path / "merged")
    assert receipt.passed, receipt.lines()
    assert receipt.target == receipt.recommended == "dequantised"
    assert set(receipt.results) == {"original", "dequantised"}
    assert receipt.results["original"].rms > 100 * receipt.results["dequantised"].rms
    held = load(top / "base", quantization="nf4", adapter=top / "qlora")
    own = parameters(tmp_path / "merged")
    parts = {name for name, module in held.named_modules() if hasattr(module, "lora")}
    plain = [(n, m) for n, m in quantised_linears(held) if n not in parts]
    assert plain
    assert all(torch.equal(own[f"{n}.weight"], m.dequantized_weight()) for n, m in plain)
    report = verify_export(tmp_path / "merged", source=top / "base")
    assert report.passed, "\n".join(report.lines())
    assert check_merge(tmp_path / "merged", top / "qlora").passed


def test_qlora_into_the_wrong_base_fails(top: Path, tmp_path: Path) -> None:
    receipt = merge(top / "qlora", tmp_path / "merged", target="original")
    assert not receipt.passed
    assert "as merged into the dequantised base" in receipt.problems[0]
    assert not check_merge(tmp_path / "merged", top / "qlora").passed
    with pytest.raises(InputError, match="records that its base was in nf4"):
        merge(top / "qlora", tmp_path / "again", quantization="int8")
    with pytest.raises(InputError, match="not trained on a quantised base"):
        merge(top / "adapter", tmp_path / "again", target="dequantised")


def test_qlora_with_wrong_scaling_fails(top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = LoraPart.delta
    monkeypatch.setattr(LoraPart, "delta", lambda part: right(part) * 1.1)
    assert not merge(top / "qlora", tmp_path / "merged").passed


def test_an_unrecorded_qlora_adapter_is_told_how(top: Path, tmp_path: Path) -> None:
    unrecorded = values(Path(shutil.copytree(top / "qlora", tmp_path / "unrecorded")))
    receipt = merge(unrecorded, tmp_path / "merged", quantization="nf4")
    assert receipt.passed
    assert receipt.target == "dequantised"


def test_nan_is_refused(top: Path, tmp_path: Path) -> None:
    assert merging.merge_adapter  # the guard is in merging itself
    from safetensors.torch import load_file, save_file

    broken = values(Path(shutil.copytree(top / "adapter", tmp_path / "broken")))
    found = load_file(broken / "adapter_model.safetensors")
    next(iter(found.values())).view(-1)[0] = float("nan")
    save_file(found, broken / "adapter_model.safetensors")
    with pytest.raises(BijectError, match="not finite"):
        merge(broken, tmp_path / "merged")
