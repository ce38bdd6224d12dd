"""`biject verify-backends`: each tier passes, fails on a planted fault, is skipped without its library."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import biject.nn.vocab_loss
from biject.errors import MissingExtraError
from biject.nn.lora_part import LoraPart
from biject.nn.modules import AddedBiasLinear, Linear
from biject.nn.quantised import FourBitLinear
from biject.verify import backends

Patch = pytest.MonkeyPatch


def changed(owner: Any, name: str, change: Callable[[Any], Any]) -> Callable[[Patch], None]:
    """A fault: what a function gives, changed."""

    def plant(patch: Patch) -> None:
        right = getattr(owner, name)
        patch.setattr(owner, name, lambda *args, **options: change(right(*args, **options)))

    return plant


def _spoil_scale(patch: Patch) -> None:
    quantise = FourBitLinear.quantise

    def spoilt(self: FourBitLinear, tensor: Tensor, **options: Any) -> None:
        quantise(self, tensor, **options)
        self.absmax[0] += 1

    patch.setattr(FourBitLinear, "quantise", spoilt)


FAULTS = {
    "matmul": changed(Linear, "forward", lambda out: out * (1 + 2**-20)),
    "linear": changed(AddedBiasLinear, "forward", lambda out: out + 2**-20),
    "codes": _spoil_scale,
    "cross-entropy": changed(biject.nn.vocab_loss, "_grid_mean", lambda loss: loss * (1 + 2**-20)),
    "lora": changed(LoraPart, "product", lambda out: out * (1 + 2**-10)),
    "qlora": changed(FourBitLinear, "forward", lambda out: out.to(torch.bfloat16).to(out.dtype)),
}


def test_every_tier_passes(run) -> None:
    pytest.importorskip("bitsandbytes")
    outcome = run("verify-backends")
    assert outcome.code == 0, outcome.out
    lines = outcome.out.splitlines()
    assert [line.split()[:2] for line in lines[: len(FAULTS)]] == [["PASS", name] for name in FAULTS]
    assert lines[-1] == f"VERDICT PASS backends (pass: {', '.join(FAULTS)})"


def test_faults_are_planted_for_every_tier() -> None:
    assert list(FAULTS) == list(backends.TIERS)


@pytest.mark.parametrize("tier", FAULTS)
def test_a_planted_fault_is_found(run, monkeypatch, tier) -> None:
    pytest.importorskip("bitsandbytes")
    monkeypatch.setattr(backends, "TIERS", {tier: backends.TIERS[tier]})
    FAULTS[tier](monkeypatch)
    outcome = run("verify-backends", "--json")
    assert outcome.code == 1
    found = json.loads(outcome.out)
    assert found["passed"] is False
    assert [level["name"] for level in found["levels"] if level["status"] == "fail"] == [tier]
    assert any(not check["passed"] for check in found["levels"][0]["checks"])


def test_without_the_libraries(run, monkeypatch) -> None:
    def missing() -> None:
        raise MissingExtraError("bitsandbytes is not installed: pip install 'biject[quant]'.")

    for module in ("codes", "logits"):
        monkeypatch.setattr(sys.modules[f"biject.verify.backends.{module}"], "bitsandbytes", missing)
    monkeypatch.setitem(sys.modules, "peft", None)
    outcome = run("verify-backends")
    assert outcome.code == 0
    assert "SKIP codes bitsandbytes is not installed" in outcome.out
    assert "SKIP lora peft is not installed: pip install peft" in outcome.out
    assert (
        "VERDICT PASS backends (pass: matmul, linear, cross-entropy; skipped: codes, lora, qlora)"
        in outcome.out
    )
