"""What the formula says autograd keeps, against what it does: storages of saved tensors, each once."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from biject.config.flops import TextBatch
from biject.config.model import ModelConfig
from biject.families import family, text_families
from biject.nn.batch import Batch, HeadRequest
from biject.nn.lora import adapt, sizes
from biject.nn.lora_part import LoraPart
from biject.nn.transformer import Transformer
from biject.plan.activations import Kept, activation_bytes, cast_bytes

LENGTHS = (7, 20, 33, 48)
LABELLED = 11
HEAD = {
    "albert": "tokcls",
    "bert": "seqcls",
    "deberta-v2": "qa",
    "gpt2": "causal",
    "qwen3": "causal",
    "gemma2": "causal",
    "olmo2": "causal",
    "modernbert": "mlm",
}
_SIZES = {
    "gpt2": {"n_embd": 256, "n_layer": 4, "n_head": 4, "n_positions": 128},
    "distilbert": {"dim": 256, "n_layers": 4, "n_heads": 4, "hidden_dim": 1024},
}
_USUAL = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}


def model_of(name: str, head: str, **overrides: Any) -> tuple[ModelConfig, Transformer]:
    """Wide enough that what is kept is not all fixed costs."""
    known, sizes = family(name), dict(_SIZES.get(name, _USUAL))
    if "num_key_value_heads" in known.tiny:
        sizes |= {"num_key_value_heads": 2, "head_dim": 64}
    values = known.config.read({"model_type": name, **known.tiny, **sizes, **overrides})
    if known.resolve is not None:
        values = known.resolve(values, frozenset(), head, None)
    config = known.build(values, head)
    model = Transformer(config).to_empty(device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.02, generator=torch.Generator().manual_seed(0))
    model.tie_weights()
    model.planner.numerics = "fast"
    return config, model.train()


def request_of(config: ModelConfig, head: str) -> tuple[Batch, HeadRequest]:
    columns_L = torch.arange(max(LENGTHS))
    mask_BL = columns_L < torch.tensor(LENGTHS)[:, None]
    ids_BL = torch.where(mask_BL, 5 + columns_L % 7, config.pad_token_id or 0)
    one_B = torch.ones(len(LENGTHS), dtype=torch.long)
    if head in ("mlm", "causal"):
        labels_BL = torch.full(mask_BL.shape, -100)
        labels_BL[3, 1 : 1 + LABELLED] = 3
        request = HeadRequest(labels=labels_BL)
    elif head == "qa":
        request = HeadRequest(start_positions=one_B, end_positions=one_B)
    else:
        request = HeadRequest(labels=one_B if head == "seqcls" else torch.where(mask_BL, 1, -100))
    return Batch(input_ids=ids_BL, attention_mask=mask_BL.long()), request


def kept_bytes(model: Transformer, batch: Batch, request: HeadRequest, *, half: bool) -> int:
    """Of the storages that autograd keeps, each once."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    seen: dict[int, int] = {}
    alive: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)  # so that no address is used twice
        return tensor

    precision = torch.autocast("cpu", torch.bfloat16) if half else nullcontext()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), precision:
        model(batch, request)
    return sum(seen.values())


def sizes_of(head: str) -> TextBatch:
    return TextBatch(lengths=LENGTHS, labelled=LABELLED if head in ("mlm", "causal") else None)


@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", text_families())
def test_the_formula_is_what_autograd_keeps(name: str, half: bool) -> None:
    head = HEAD.get(name, "seqcls")
    config, model = model_of(name, head)
    found = kept_bytes(model, *request_of(config, head), half=half)
    said = activation_bytes(config, sizes_of(head), Kept(half=half))
    said += cast_bytes(config, sizes_of(head)) if half else 0
    assert said == pytest.approx(found, rel=0.16 if half else 0.08)


@pytest.mark.parametrize("name", ["bert", "qwen3"])
def test_a_frozen_base_keeps_less(name: str) -> None:
    """Norms and head are trained, no matrix of the layers is."""
    config, model = model_of(name, "seqcls", attention_dropout=0.0)

    def trained(module: str) -> bool:
        return "norm" in module or module.startswith(("head", "embed"))

    for parameter_name, parameter in model.named_parameters():
        parameter.requires_grad_(trained(parameter_name.rpartition(".")[0]))
    found = kept_bytes(model, *request_of(config, "seqcls"), half=False)
    said = activation_bytes(config, sizes_of("seqcls"), Kept(trained=trained))
    assert said == pytest.approx(found, rel=0.1)
    assert said < 0.9 * activation_bytes(config, sizes_of("seqcls"), Kept())


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("name", ["bert", "llama"])
def test_adapters_keep_their_inputs(name: str, dropout: float) -> None:
    """A low rank beside queries and values; the base is frozen."""
    config, model = model_of(name, "seqcls")
    targets = ("q_proj", "v_proj")
    for parameter_name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter_name.startswith("head."))
    for module_name, module in list(model.named_modules()):
        if module_name.endswith(targets):
            inputs, outputs = sizes(module)
            wrapped = adapt(module)
            wrapped.lora["own"] = LoraPart(
                torch.zeros(8, inputs), torch.zeros(outputs, 8), scaling=1.0, dropout=dropout
            )
            wrapped.active = ("own",)
    found = kept_bytes(model.train(), *request_of(config, "seqcls"), half=False)
    kept = Kept(
        trained=lambda module: module.startswith("head."),
        rank=lambda module: 8 if module.endswith(targets) else 0,
        adapter_dropout=dropout > 0,
    )
    said = activation_bytes(config, sizes_of("seqcls"), kept)
    assert said == pytest.approx(found, rel=0.12)


def test_recomputed_layers_keep_their_inputs() -> None:
    config, model = model_of("bert", "tokcls")
    model.gradient_checkpointing = True
    found = kept_bytes(model, *request_of(config, "tokcls"), half=False)
    one = activation_bytes(config, sizes_of("tokcls"), Kept(recomputed=True))
    every = activation_bytes(config, sizes_of("tokcls"), Kept())
    assert found < one < 0.6 * every  # the one layer that is recomputed at a time comes later


def test_another_size_is_seen() -> None:
    config, model = model_of("bert", "seqcls")
    found = kept_bytes(model, *request_of(config, "seqcls"), half=False)
    other, _ = model_of("bert", "seqcls", intermediate_size=1536)
    padded = TextBatch(lengths=LENGTHS, packed=False)
    assert activation_bytes(other, sizes_of("seqcls"), Kept()) != pytest.approx(found, rel=0.08)
    assert activation_bytes(config, padded, Kept()) != pytest.approx(found, rel=0.08)
