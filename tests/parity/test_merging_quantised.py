"""Merges of adapters that were trained on quantised bases: into which, by which numbers, checked again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from biject.config.adapter import LoraConfig
from biject.merging.merge import check_merge, merge
from biject.nn.lora_part import LoraPart
from biject.pretrained import load
from biject.verify.reference import make_reference


def adapter_on(base: Path, folder: Path, **options: Any) -> Path:
    torch.manual_seed(0)
    model = load(base, quantization="nf4", **options)
    model.add_adapter(LoraConfig(r=4, lora_alpha=8, init_lora_weights=False))
    model.save_adapter(folder)
    return folder


@pytest.mark.parametrize(
    ("model_type", "head", "overrides"),
    [
        ("bert", "seqcls", {"num_labels": 1}),
        ("bert", "seqcls", {"num_labels": 2, "problem_type": "multi_label_classification"}),
        ("electra", "rtd", {}),
    ],
)
def test_outputs_without_a_softmax_are_measured_by_rms(
    model_type: str, head: str, overrides: dict[str, Any], tmp_path: Path
) -> None:
    base = make_reference(model_type, head, tmp_path / "base", overrides=overrides)
    adapter = adapter_on(base, tmp_path / "adapter")
    receipt = merge(adapter, tmp_path / "merged")
    assert receipt.passed, receipt.lines()
    assert receipt.target == receipt.recommended == "dequantised"
    for found in receipt.results.values():
        assert (found.kl, found.flips) == (None, None)
    assert not any("KL" in line or "argmax" in line for line in receipt.lines())
    assert check_merge(tmp_path / "merged", adapter).passed
    assert not merge(adapter, tmp_path / "wrong", target="original").passed
    assert not check_merge(tmp_path / "wrong", adapter).passed


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base in 16 bits, and an adapter that was trained on it in 4."""
    top = tmp_path_factory.mktemp("half")
    make_reference("llama", "causal", top / "base", dtype=torch.bfloat16)
    merge(adapter_on(top / "base", top / "adapter"), top / "merged")
    return top


def test_a_folder_in_16_bits_passes_as_it_did_when_it_was_merged(half: Path, tmp_path: Path) -> None:
    receipt = merge(half / "adapter", tmp_path / "merged")
    assert receipt.passed, receipt.lines()
    assert (receipt.target, receipt.dtype) == ("dequantised", "bfloat16")
    checked = check_merge(tmp_path / "merged", half / "adapter")
    assert checked.passed, checked.lines()
    assert checked.target == checked.recommended == "dequantised"


def test_a_folder_of_the_wrong_base_in_16_bits_fails(half: Path, tmp_path: Path) -> None:
    assert not merge(half / "adapter", tmp_path / "merged", target="original").passed
    checked = check_merge(tmp_path / "merged", half / "adapter")
    assert (checked.target, checked.recommended) == ("original", "dequantised")
    assert "merging into the dequantised base comes" in checked.problems[0]


@pytest.mark.parametrize("factor", [1.1, 0.0, -1.0])
def test_a_wrong_scaling_in_16_bits_fails(
    factor: float, half: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        right = LoraPart.delta
        patch.setattr(LoraPart, "delta", lambda part: right(part) * factor)
        merge(half / "adapter", tmp_path / "merged")
    checked = check_merge(tmp_path / "merged", half / "adapter")
    assert "this is not the adapter on its base" in checked.problems[0]


def test_one_changed_matrix_in_16_bits_fails(half: Path, tmp_path: Path) -> None:
    model = load(half / "merged")
    with torch.no_grad():
        model.layers[-1].mlp.down_proj.weight.mul_(1.1)
    model.save_pretrained(tmp_path / "changed")
    assert not check_merge(tmp_path / "changed", half / "adapter").passed
