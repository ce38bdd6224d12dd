"""Quantised bases against `transformers` with bitsandbytes, CPU: linears, codes, outputs, gradients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from biject.families import families, family
from biject.model import Model
from biject.nn.quantised import FourBitLinear
from biject.pretrained import load
from biject.quantize import quantised_linears
from biject.verify.inputs import probe_cases, training_case
from parity.harness import compare_forward, equal, objective
from parity.quantised import METHODS, hf_names, hf_quantised, quantised_pair
from parity.unequal import is_packed, labelled, lengths, real_differences, texts

Reference = Callable[..., Path]
CELLS = [(name, head) for name in families() for head in family(name).heads]
MODELS = [
    ("llama", "causal"),
    ("qwen3", "causal"),
    ("mistral", "causal"),
    ("gpt2", "causal"),
    ("bert", "seqcls"),
]
OTHERS = [("deberta-v2", "tokcls"), ("modernbert", "mlm"), ("albert", "qa"), ("electra", "rtd")]
GRID = [(*model, *method) for model in MODELS for method in METHODS]


@pytest.mark.parametrize(("model_type", "head"), CELLS)
def test_the_same_linears_are_quantised(model_type: str, head: str, reference: Reference) -> None:
    import bitsandbytes

    ours, theirs = quantised_pair(reference(model_type, head), "nf4", True)
    names = hf_names(ours, theirs)
    mine = {names[f"{name}.weight"].removesuffix(".weight") for name, _ in quantised_linears(ours)}
    linears = {name for name, m in theirs.named_modules() if isinstance(m, bitsandbytes.nn.Linear4bit)}
    assert mine == linears
    for name, parameter in ours.named_parameters():
        if ".experts." in name:
            assert parameter.is_floating_point(), name
            continue
        other = theirs.get_parameter(names[name])
        assert (parameter.dtype, parameter.shape) == (other.dtype, other.shape), name
    unused = sum(p.numel() for name, p in theirs.named_parameters() if name.endswith("mask_token"))
    assert ours.num_parameters() == theirs.num_parameters() - unused  # DINOv2's; ours leaves it in the file


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("model_type", "head", "method", "double_quant"), GRID)
def test_codes_and_scales(
    model_type: str,
    head: str,
    method: str,
    double_quant: bool | None,
    dtype: torch.dtype,
    reference: Reference,
) -> None:
    import bitsandbytes.functional as F

    folder = reference(model_type, head, dtype=dtype)
    ours = load(folder, quantization=method, double_quant=double_quant)
    theirs = hf_quantised(folder, ours, method, double_quant, dtype=dtype)
    names = hf_names(ours, theirs)
    found = dict(quantised_linears(ours))
    assert found
    for name, module in found.items():
        other = theirs.get_submodule(names[f"{name}.weight"].removesuffix(".weight"))
        assert equal(module.weight, other.weight.data), name
        if isinstance(module, FourBitLinear):
            state = other.weight.quant_state
            assert equal(module.absmax, state.absmax), name
            assert state.nested is bool(double_quant)
            if double_quant:
                assert equal(module.nested_absmax, state.state2.absmax)
                assert equal(module.nested_code, state.state2.code)
                assert equal(module.offset, state.offset)
            assert equal(module.dequantized_weight(), F.dequantize_4bit(other.weight.data, state)), name
        else:
            scale = other.weight.SCB if other.weight.SCB is not None else other.state.SCB
            assert equal(module.scale, scale), name
            assert equal(module.dequantized_weight(), F.int8_vectorwise_dequant(other.weight.data, scale))


@pytest.mark.parametrize(("model_type", "head", "method", "double_quant"), GRID)
def test_forward_in_the_padded_layout(
    model_type: str, head: str, method: str, double_quant: bool | None, reference: Reference
) -> None:
    ours, theirs = quantised_pair(reference(model_type, head), method, double_quant, layout="padded")
    assert_alike(ours, theirs)


@pytest.mark.parametrize(
    ("model_type", "head", "method", "double_quant"), [c for c in GRID if c[1] == "causal"]
)
def test_fast_numerics_compute_in_eval_mode_as_bitsandbytes_does(
    model_type: str, head: str, method: str, double_quant: bool | None, reference: Reference
) -> None:
    """In bfloat16 on a CPU with AVX512-BF16; codes, scales and training are not touched by it."""
    grouped = {"num_key_value_heads": 4, "head_dim": 16} if model_type != "gpt2" else {}
    folder = reference(model_type, head, overrides={**wide(model_type), **grouped})
    options: dict[str, Any] = {"layout": "padded", "numerics": "fast"}
    ours = load(folder, quantization=method, double_quant=double_quant, **options)
    theirs = hf_quantised(folder, ours, method, double_quant, bfloat16_in_eval=True)
    before = {name: tensor.clone() for name, tensor in (*ours.named_parameters(), *ours.named_buffers())}
    assert_alike(ours, theirs)
    for name, tensor in (*ours.named_parameters(), *ours.named_buffers()):
        assert equal(tensor, before[name]), name
    ours.planner.numerics = None
    assert gradient_differences(ours, hf_quantised(folder, ours, method, double_quant), train=True) == []


@pytest.mark.parametrize(("model_type", "head"), OTHERS)
def test_forward_of_other_families(model_type: str, head: str, reference: Reference) -> None:
    ours, theirs = quantised_pair(reference(model_type, head), "nf4", True, layout="padded")
    assert_alike(ours, theirs)


def assert_alike(ours: Model, theirs: nn.Module) -> None:
    for case in probe_cases(ours.hf_config):
        assert compare_forward(ours, theirs, case) == [], case.name


@pytest.mark.parametrize(("model_type", "head", "method", "double_quant"), GRID)
def test_forward_in_the_packed_layout(
    model_type: str, head: str, method: str, double_quant: bool | None, reference: Reference
) -> None:
    ours, theirs = quantised_pair(
        reference(model_type, head, overrides=wide(model_type)), method, double_quant
    )
    packed = []
    for count, shortest, longest, kind in [(9, 2, 40, "right"), (33, 2, 12, "right"), (6, 3, 50, "left")]:
        batch = texts(ours, lengths(count, shortest, longest), kind=kind)
        for flags in ({}, {"output_hidden_states": True}):
            assert real_differences(ours, theirs, batch, **flags) == [], (kind, flags)
        assert real_differences(ours, theirs, labelled(ours, batch)) == [], (kind, "labels")
        packed.append(is_packed(ours, batch))
    assert any(packed) == (method != "int8")  # in int8 a row's bits depend on all rows of the batch


def wide(model_type: str) -> dict[str, Any]:
    """Sizes at which the probe finds rows to be independent."""
    if model_type == "gpt2":
        return {"n_embd": 64, "n_head": 4, "n_positions": 64}
    more = {"num_key_value_heads": 2} if model_type != "bert" else {}
    return {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        **more,
    }


@pytest.mark.parametrize(("model_type", "head", "method", "double_quant"), GRID)
@pytest.mark.parametrize("train", [False, True])
def test_gradients(
    model_type: str, head: str, method: str, double_quant: bool | None, train: bool, reference: Reference
) -> None:
    ours, theirs = quantised_pair(reference(model_type, head), method, double_quant, layout="padded")
    assert gradient_differences(ours, theirs, train=train) == []


def test_gradients_with_checkpointing(reference: Reference) -> None:
    ours, theirs = quantised_pair(reference("llama", "causal"), "nf4", True, layout="padded")
    ours.gradient_checkpointing_enable()
    assert gradient_differences(ours, theirs, train=True) == []


def gradient_differences(ours: Model, theirs: nn.Module, *, train: bool) -> list[str]:
    """The loss, and the gradients of all parameters that are not quantised."""
    case, names = training_case(ours.hf_config, ours.head_name), hf_names(ours, theirs)
    losses = []
    for model in (ours, theirs):
        model.train(train)
        torch.manual_seed(3)
        losses.append(objective(model(**case.inputs)))
        losses[-1].backward()
    found = [] if equal(*losses) else ["loss"]
    compared = 0
    for name, parameter in ours.named_parameters():
        if not parameter.requires_grad:
            continue
        other = theirs.get_parameter(names[name]).grad
        assert (parameter.grad is None) == (other is None), name
        compared += other is not None
        if other is not None and not equal(parameter.grad, other):
            found.append(name)
    assert compared
    return found
