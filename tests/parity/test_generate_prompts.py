"""Prompts of very different lengths: padding is not computed, and logits are HF's of the padded batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from biject.model import Model
from biject.nn import decode, prompt
from biject.nn.exact import min_rows
from biject.nn.layout import Packed
from biject.nn.native import build
from biject.nn.rowwise import row_ops
from biject.pretrained import load
from parity.harness import hf_model
from parity.test_generate import CACHED, DECODERS, ids_of, logits_of

Make = Callable[..., Path]
LENGTHS = (3, 17, 1, 40, 8)
ROOM = {"max_position_embeddings": 128}


def mixed(high: int = 90) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids, mask), padded on the left to 40 columns."""
    longest = max(LENGTHS)
    mask = (torch.arange(longest) >= longest - torch.tensor(LENGTHS)[:, None]).long()
    return ids_of(len(LENGTHS), longest, high=high), mask


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> list[prompt.PackedPrompt]:
    """What prompts were packed into."""
    found: list[prompt.PackedPrompt] = []

    def noted(*given: Any) -> prompt.PackedPrompt | None:
        made = prompt.packed_prompt(*given)
        found.extend([] if made is None else [made])
        return made

    monkeypatch.setattr(decode, "packed_prompt", noted)
    return found


def wider(model_type: str) -> dict[str, Any]:
    return {"n_positions": 128} if model_type == "gpt2" else ROOM


def model_of(make: Make, model_type: str, **overrides: Any) -> Model:
    return load(make(model_type, "causal", overrides={**wider(model_type), **overrides}))


def assert_same_bits(steps: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    assert [step for step, (a, b) in enumerate(steps) if not torch.equal(a, b)] == []


def exactly(model: Model, mask: torch.Tensor) -> bool:
    """Whether anything but HF's whole grid is exact here."""
    if any(spec.upcast or spec.head_dim % 4 or spec.softcap is not None for spec in model.attention_specs):
        return False
    return min_rows(row_ops(model.row_modules), int(mask.sum()), mask.numel(), model.dtype) is not None


MIXED = [
    v
    for v in CACHED
    # HF's loss of balance takes no mask of a text that grows; see `test_logits_step_by_step` for the other.
    if (v.model_type, v.name) not in {("gemma3_text", "capped")}
    and not {"max_position_embeddings", "n_positions", "rope_scaling", "rope_parameters"} & v.overrides.keys()
]


@pytest.mark.parametrize("variant", MIXED, ids=lambda v: f"{v.model_type}-{v.name}")
def test_logits_of_mixed_lengths(variant: Any, reference: Make, packed: list[Any]) -> None:
    ours = model_of(reference, variant.model_type, **{**variant.overrides, "eos_token_id": None})
    ids, mask = mixed()
    assert_same_bits(logits_of(ours, hf_model(ours.source.folder, ours), ids, mask, 4))
    grid = not exactly(ours, mask)
    assert len(packed) == (0 if grid else 1)
    for one in packed:
        assert isinstance(one.layout, Packed)
        assert one.layout.num_rows < 0.6 * mask.numel()  # 69 of 200 are tokens


@pytest.mark.parametrize("queries_hold", [True, False])
def test_heads_as_wide_as_real_ones(
    queries_hold: bool, reference: Make, packed: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attention by buckets of few queries, where the probe says that they are exact, or of the whole grid."""
    ours = model_of(reference, "qwen3", hidden_size=128, head_dim=64, eos_token_id=None)
    if not queries_hold:
        monkeypatch.setattr(prompt, "attention_holds", lambda *_, **__: False)
    elif not prompt._queries_hold(ours):
        pytest.skip("this machine's attention gives fewer queries other bits")
    ids, mask = mixed()
    assert_same_bits(logits_of(ours, hf_model(ours.source.folder, ours), ids, mask, 4))
    assert len(packed[0].texts) == (3 if queries_hold else 1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("model_type", ["gpt2", "qwen2"])
def test_in_narrow_dtypes(model_type: str, dtype: torch.dtype, reference: Make) -> None:
    ours = load(reference(model_type, "causal", overrides=wider(model_type)), dtype=dtype)
    theirs = hf_model(ours.source.folder, ours, dtype=dtype)
    assert_same_bits(logits_of(ours, theirs, *mixed(), 4))


@pytest.mark.parametrize("model_type", DECODERS)
def test_the_same_tokens(model_type: str, reference: Make, packed: list[Any]) -> None:
    """HF's, exactly and with fast numerics."""
    ours = model_of(reference, model_type, vocab_size=1200)
    ids, mask = mixed(1200)
    theirs = hf_model(ours.source.folder, ours)
    hf = theirs.generate(ids, attention_mask=mask, max_new_tokens=12, eos_token_id=-1)
    assert ours.generate(ids, mask, max_new_tokens=12, eos_token_id=-1).tolist() == hf.tolist()
    fast = ours.generate(ids, mask, max_new_tokens=12, eos_token_id=-1, numerics="fast")
    assert fast.tolist() == hf.tolist()
    known = exactly(ours, mask)
    assert known or model_type == "gemma2"  # capped scores
    assert len(packed) == 1 + known
    places = [sum(b.batch * b.queries * b.keys for b in p.layout.buckets) for p in packed]
    assert places[-1] < (places[0] if known else mask.numel() * mask.shape[1])
    assert places[0] <= mask.numel() * mask.shape[1]
    ours.planner.layout = "padded"
    assert ours.generate(ids, mask, max_new_tokens=12, eos_token_id=-1).tolist() == hf.tolist()
    assert len(packed) == 1 + known


@pytest.mark.parametrize("numerics", ["exact", "fast"])
def test_holes_and_windows(numerics: str, reference: Make, packed: list[Any]) -> None:
    """Against each text alone: nothing of its neighbours or of what fills up a bucket comes through."""
    ours = model_of(reference, "mistral", sliding_window=12)
    ids, mask = mixed()
    found = ours.generate(ids, mask, max_new_tokens=6, eos_token_id=-1, numerics=numerics)
    for text, length in enumerate(LENGTHS):
        alone = ours.generate(ids[text : text + 1, -length:], max_new_tokens=6, eos_token_id=-1)
        assert found[text, ids.shape[1] :].tolist() == alone[0, length:].tolist()
    mask[3, 20:23] = 0
    hf = hf_model(ours.source.folder, ours)
    arguments = {"max_new_tokens": 6, "eos_token_id": -1}
    assert (
        ours.generate(ids, mask, **arguments).tolist()
        == hf.generate(ids, attention_mask=mask, **arguments).tolist()
    )
    assert len(packed) == 2


@pytest.mark.parametrize("fault", ["last row", "keys", "mask"])
def test_planted_faults(fault: str, reference: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row before the last is read; keys are put one column too early; padding is looked at."""
    ours = model_of(reference, "llama")
    theirs = hf_model(ours.source.folder, ours)
    if fault == "last row":
        plain = prompt.select
        monkeypatch.setattr(prompt, "select", lambda layout, rows, **k: plain(layout, rows - 1, **k))
    elif fault == "keys":
        update = prompt._ByBucket.update
        monkeypatch.setattr(prompt._ByBucket, "update", lambda own, a, k, v: update(own, a, k.roll(-1, 2), v))
    else:
        monkeypatch.setattr(decode, "masks", lambda kind, layout: (None,) * len(layout.buckets))
    with pytest.raises(AssertionError):
        assert_same_bits(logits_of(ours, theirs, *mixed(), 4))


@pytest.mark.skipif(build.compiler() is None, reason="needs a C compiler")
def test_steps_in_c_follow(reference: Make, packed: list[Any]) -> None:
    wide = {"hidden_size": 128, "intermediate_size": 192, "num_attention_heads": 4, "num_key_value_heads": 2}
    ours = model_of(reference, "qwen3", **wide)
    ids, mask = mixed()
    arguments = {"max_new_tokens": 5, "return_dict_in_generate": True, "output_logits": True}
    exact, fast, codes = (
        ours.generate(ids, mask, eos_token_id=-1, **arguments, **form)
        for form in ({}, {"numerics": "fast"}, {"quantization": "int8"})
    )
    assert len(packed) == 3
    assert fast.sequences.tolist() == exact.sequences.tolist()
    for mine, true in zip(fast.logits, exact.logits, strict=True):
        torch.testing.assert_close(mine, true, rtol=0, atol=1e-4)
    assert torch.equal(codes.logits[0], fast.logits[0])  # the prompt is read with the full matrices
