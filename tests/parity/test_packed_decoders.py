"""The packed layout of decoders: HF's bits at real tokens, texts that never see each other, gradients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from biject.families import family, text_families
from biject.model import Model
from biject.pretrained import load
from parity.harness import hf_gradient, hf_model
from parity.unequal import is_packed, labelled, lengths, real_differences, texts

Reference = Callable[..., Path]
DECODERS = [name for name in text_families() if "causal" in family(name).heads]
CELLS = [(name, head) for name in DECODERS for head in family(name).heads]
BATCHES = [  # batch, shortest, longest, padding
    (9, 2, 40, "right"),
    (33, 2, 12, "right"),
    (5, 3, 120, "right"),
    (6, 3, 50, "left"),
    (7, 3, 70, "holes"),
]
ROPE = {"rope_theta": 10000.0, "factor": 2.0}
VARIANTS: list[tuple[str, str, dict[str, Any]]] = [
    ("llama", "causal", {"num_key_value_heads": 1, "head_dim": 32}),
    ("llama", "causal", {"rope_parameters": {"rope_type": "dynamic", **ROPE}, "max_position_embeddings": 64}),
    ("llama", "base", {"attention_bias": True, "mlp_bias": True, "intermediate_size": 53}),
    ("mistral", "causal", {"sliding_window": 8}),
    ("qwen3", "base", {"head_dim": 24, "use_sliding_window": True, "sliding_window": 5}),
    ("gemma2", "causal", {"head_dim": 32, "attn_logit_softcapping": None}),
    ("gemma2", "base", {"head_dim": 16, "attn_logit_softcapping": 50.0, "sliding_window": 30}),
    ("gemma3_text", "causal", {"head_dim": 32, "sliding_window": 8}),
    ("olmo2", "base", {"head_dim": 24}),
    ("gpt2", "causal", {"scale_attn_by_inverse_layer_idx": True, "n_inner": 37}),
    ("gpt2", "base", {"activation_function": "silu", "n_inner": 100}),
]


def both(make: Reference, model_type: str, head: str, **more: Any) -> tuple[Model, nn.Module]:
    folder = make(model_type, head, overrides=more)
    ours = load(folder)
    return ours, hf_model(folder, ours)


def fitting(model: Model, longest: int) -> int:
    """As long as a learned table of positions allows."""
    sizes = model.config.embedding
    return min(longest, sizes.max_position_embeddings) if "positions" in sizes.order else longest


def all_alike(ours: Model, theirs: nn.Module) -> bool:
    """Every output has HF's bits; whether padding was left out of any batch."""
    packed = []
    for count, shortest, longest, kind in BATCHES:
        batch = texts(ours, lengths(count, shortest, fitting(ours, longest)), kind=kind)
        if kind == "holes" and ours.head_name == "seqcls":
            batch["input_ids"][2, 0] = 7  # a text of padding only has no last token
        for flags in ({}, {"output_hidden_states": True}):
            assert real_differences(ours, theirs, batch, **flags) == [], (count, longest, kind, flags)
        assert real_differences(ours, theirs, labelled(ours, batch)) == [], (count, longest, kind, "labels")
        packed.append(is_packed(ours, batch))
    return any(packed)


@pytest.mark.parametrize(("model_type", "head"), CELLS)
def test_every_family_and_head(model_type: str, head: str, reference: Reference) -> None:
    packed = all_alike(*both(reference, model_type, head))
    assert packed == (not family(model_type).slices)  # experts have HF's bits in HF's grid alone


@pytest.mark.parametrize(("model_type", "head", "more"), VARIANTS)
def test_variants(model_type: str, head: str, more: dict[str, Any], reference: Reference) -> None:
    all_alike(*both(reference, model_type, head, **more))  # odd widths are not packed, and equal all the same


@pytest.mark.parametrize("model_type", DECODERS)
def test_documents_do_not_leak(model_type: str, reference: Reference) -> None:
    """Other words in one text change no bit of another; each is as it is alone, up to HF's own rounding."""
    ours, theirs = both(reference, model_type, "causal")
    counts = [fitting(ours, 60), 20, 33, 47]
    batch = texts(ours, counts)
    changed = {**batch, "input_ids": batch["input_ids"].clone()}
    changed["input_ids"][0] = changed["input_ids"][0].flip(0)
    with torch.no_grad():
        before, after = ours(**batch).logits, ours(**changed).logits
        assert not torch.equal(before[0], after[0])
        for text, count in enumerate(counts[1:], 1):
            assert torch.equal(before[text], after[text])
            alone = theirs(input_ids=batch["input_ids"][text : text + 1, :count]).logits[0]
            bound = 1e-6 * max(10.0, float(alone.abs().max()))  # HF's own batch differs so
            assert torch.allclose(before[text, :count], alone, rtol=0, atol=bound)


@pytest.mark.parametrize("model_type", DECODERS)
def test_gradients(model_type: str, reference: Reference) -> None:
    """≤ 1e-5 relative norm of HF's padded gradients, prompts (-100) left out of the loss."""
    ours, theirs = both(reference, model_type, "causal")
    batch = texts(ours, lengths(8, 4, 60))
    batch = {**batch, "labels": batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)}
    batch["labels"][:, :3] = -100
    for model in (ours, theirs):
        model(**batch).loss.backward()
    hf = dict(theirs.named_parameters(remove_duplicate=False))
    apart = norm = 0.0
    for binding in ours.provenance.plan.bindings:
        a, b = ours.get_parameter(binding.memory).grad, hf_gradient(binding.disk[0], hf, ours)
        assert a is not None
        assert b is not None
        apart, norm = apart + float((a - b).norm()) ** 2, norm + float(b.norm()) ** 2
    assert (apart / norm) ** 0.5 <= 1e-5
