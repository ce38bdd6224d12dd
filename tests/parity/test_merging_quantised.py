"""Merges of adapters that were trained on quantised bases: into which, by which numbers, checked again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from biject.config.adapter import LoraConfig
from biject.merging.merge import check_merge, merge
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
