"""Qwen3-MoE (Yang et al. 2025): Qwen3 with experts in place of the MLP, in all layers or some. Source:
transformers 5.23, models/qwen3_moe/modeling_qwen3_moe.py, conversion_mapping.py (qwen2_moe).

Not registered (hence the underscore): its training steps are not HF's bits on every run, see docs/experts.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from biject.config.checks import boolean, flag, integer, number
from biject.config.layers import ExpertsConfig
from biject.config.model import ModelConfig
from biject.config.table import ConfigTable, Inert, Key
from biject.errors import ConfigError
from biject.families import _decoder
from biject.families._decoder import TINY, Values, buffers, heads, llama_rows
from biject.families._family import Family, Slice
from biject.weights.rules import ParamSpecs, embed, join, layers, linear, rms, tensor

FREE = 4096
"""Experts of all layers that are named whatever the file holds, so that what is missing is named."""
PARTS = ("gate_proj", "up_proj", "down_proj")
STACKED = ".mlp.experts.gate_up_proj"


def backbone(v: Values) -> ParamSpecs:
    """The transformer."""
    bias = v["attention_bias"]
    attention = join(
        rms("attn_norm", "input_layernorm"),
        *(linear(f"attn.{one}", f"self_attn.{one}", bias=bias) for one in ("q_proj", "k_proj", "v_proj")),
        linear("attn.o_proj", "self_attn.o_proj", bias=bias),
        rms("attn.q_norm", "self_attn.q_norm"),
        rms("attn.k_norm", "self_attn.k_norm"),
        rms("mlp_norm", "post_attention_layernorm"),
    )
    dense = join(*(linear(f"mlp.{one}", f"mlp.{one}", bias=False) for one in PARTS))
    kinds = {True: join(attention, _experts(v)), False: join(attention, dense)}
    return join(
        embed("embed.tokens", "embed_tokens"),
        *(layers([f"layers.{i}"], kinds[sparse], first=i) for i, sparse in enumerate(_sparse(v))),
        rms("final_norm", "norm"),
    )


def _experts(v: Values) -> ParamSpecs:
    """The router's matrix, and the experts': three each, or two for all of them."""
    router = linear("mlp.router", "mlp.gate", bias=False)
    if v.get("stacked"):
        both = (f"mlp.experts.{one}" for one in ("gate_up_proj", "down_proj"))
        return join(router, *(tensor(name, name) for name in both))
    names = (f"mlp.experts.{index}.{one}" for index in range(_count(v)) for one in PARTS)
    return join(router, *(linear(name, name, bias=False) for name in names))


def _sparse(v: Values) -> list[bool]:
    """Which layers have experts."""
    dense, step = v["mlp_only_layers"] or (), v["decoder_sparse_step"]
    layers = range(v["num_hidden_layers"])
    return [_count(v) > 0 and i not in dense and (i + 1) % step == 0 for i in layers]


def _count(v: Values) -> int:
    """How many experts a layer has: the Hub's name for it, or transformers 5's; HF's default is 128."""
    named = v["num_experts"], v["num_local_experts"]
    return next((one for one in named if one is not None), 128)


def resolve(v: Values, names: frozenset[str], head: str, legacy: bool | None) -> Mapping[str, Any]:
    """Whether the file holds experts one by one, as the Hub's do, or stacked, as transformers 5 has them.

    Raises:
        ConfigError: more experts than the file can hold.
    """
    del head, legacy
    stacked = any(name.endswith(STACKED) for name in names)
    found = {**v, "stacked": stacked}
    layers = sum(_sparse(found))
    if not stacked and layers * _count(v) > max(FREE, len(names)):
        raise ConfigError(
            f"config.json has {_count(v)} experts in each of {layers} layers, but the "
            f"file has only {len(names)} tensors. They are not of one model: fetch both again."
        )
    return found


def build(v: Values, name: str) -> ModelConfig:
    """The modules' config; every layer has the same window."""
    bias, count = v["attention_bias"], v["num_hidden_layers"]
    window = v["sliding_window"] if v["use_sliding_window"] else None
    built = _decoder.build(v, name, qkv_bias=bias, out_bias=bias, qk_norm=True, windows=(window,) * count)
    experts = ExpertsConfig(
        hidden_size=v["hidden_size"],
        intermediate_size=v["moe_intermediate_size"],
        act=v["hidden_act"],
        num_experts=_count(v),
        num_experts_per_tok=v["num_experts_per_tok"],
        norm_topk_prob=v["norm_topk_prob"],
        stacked=v.get("stacked", False),
    )
    sparse = _sparse(v)
    _check(v, any(sparse))
    return replace(
        built,
        layers=tuple(
            replace(layer, mlp=experts) if has else layer
            for layer, has in zip(built.layers, sparse, strict=True)
        ),
        output_router_logits=bool(v["output_router_logits"]),
        router_aux_loss_coef=v["router_aux_loss_coef"],
    )


def _check(v: Values, sparse: bool) -> None:
    """Raise where the experts' numbers contradict each other; HF crashes on these, or takes one of two."""
    one, other, each = v["num_experts"], v["num_local_experts"], v["num_experts_per_tok"]
    if one is not None and other is not None and one != other:
        raise ConfigError(f"config.json: `num_experts` is {one}, `num_local_experts` {other}: leave one out.")
    if sparse and each > _count(v):
        raise ConfigError(f"config.json: `num_experts_per_tok` is {each}, and there are {_count(v)} experts.")


def _layer_numbers(value: Any) -> str | None:
    """null, or a list of whole numbers."""
    listed = isinstance(value, list | tuple) and all(type(one) is int for one in value)
    return None if value is None or listed else "null or a list of layers' numbers"


FAMILY = Family(
    model_type="qwen3_moe",
    prefix="model",
    config=ConfigTable(
        llama_rows(vocab_size=151936, intermediate_size=6144, max_position_embeddings=32768),
        Key("hidden_size", "hidden_size", integer(1), 2048),
        Key("num_hidden_layers", "num_hidden_layers", integer(1), 24),
        Key("num_key_value_heads", "num_key_value_heads", integer(1), 4),
        Key("use_sliding_window", "use_sliding_window", boolean, False),
        Key("sliding_window", "sliding_window", integer(1, none=True), 4096),
        Key("attention_bias", "attention_bias", boolean, False),
        Key("decoder_sparse_step", "decoder_sparse_step", integer(1), 1),
        Key("mlp_only_layers", "mlp_only_layers", _layer_numbers, []),
        Key("moe_intermediate_size", "moe_intermediate_size", integer(1), 768),
        Key("num_experts", "num_experts", integer(0, none=True), None),
        Key("num_local_experts", "num_local_experts", integer(0, none=True), None),
        Key("num_experts_per_tok", "num_experts_per_tok", integer(1), 8),
        Key("norm_topk_prob", "norm_topk_prob", boolean, False),
        Key("output_router_logits", "output_router_logits", flag, False),
        Key("router_aux_loss_coef", "router_aux_loss_coef", number(), 0.001),
        Inert(("max_window_layers",)),
    ),
    build=build,
    heads=heads("Qwen3Moe", backbone, qa_prefix="transformer"),
    buffers=buffers,
    resolve=resolve,
    slices=(
        Slice("mlp.experts.*.gate_proj.weight", "mlp.experts.gate_up_proj", part=0, parts=2),
        Slice("mlp.experts.*.up_proj.weight", "mlp.experts.gate_up_proj", part=1, parts=2),
        Slice("mlp.experts.*.down_proj.weight", "mlp.experts.down_proj"),
    ),
    tiny={
        **TINY,
        "num_hidden_layers": 3,
        "mlp_only_layers": [1],
        "head_dim": 12,
        "moe_intermediate_size": 24,
        "num_experts": 6,
        "num_experts_per_tok": 2,
        "norm_topk_prob": True,
    },
    base={
        "num_hidden_layers": 48,
        "head_dim": 128,
        "max_position_embeddings": 40960,
        "norm_topk_prob": True,
        "rope_theta": 1000000.0,
    },
)
