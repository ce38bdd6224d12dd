"""Phi-3, 3.5 and 4 (Abdin et al. 2024): LLaMA with fused projections and dropout after attention and MLP.
Source: transformers 5.23, models/phi3/modeling_phi3.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from biject.config.checks import integer, number, probability
from biject.config.model import ModelConfig
from biject.config.rope import RopeConfig
from biject.config.table import ConfigTable, Inert, Key
from biject.errors import ConfigError
from biject.families import _decoder
from biject.families._decoder import TINY, Values, buffers, heads, llama_rows
from biject.families._family import Family
from biject.families._rope import rope
from biject.weights.rules import ParamSpecs, embed, join, layers, linear, rms


def backbone(v: Values) -> ParamSpecs:
    """The transformer."""
    return join(
        embed("embed.tokens", "embed_tokens"),
        layers(
            [f"layers.{i}" for i in range(v["num_hidden_layers"])],
            rms("attn_norm", "input_layernorm"),
            linear("attn.qkv_proj", "self_attn.qkv_proj", bias=False),
            linear("attn.o_proj", "self_attn.o_proj", bias=False),
            rms("mlp_norm", "post_attention_layernorm"),
            linear("mlp.gate_up_proj", "mlp.gate_up_proj", bias=False),
            linear("mlp.down_proj", "mlp.down_proj", bias=False),
        ),
        rms("final_norm", "norm"),
    )


def build(v: Values, name: str) -> ModelConfig:
    """The modules' config; every layer has the same window."""
    plain = {**v, "rope_parameters": None, "rope_scaling": None, "partial_rotary_factor": None}
    built = _decoder.build(plain, name, windows=(v["sliding_window"],) * v["num_hidden_layers"])
    layers = (
        replace(
            layer,
            attention=replace(layer.attention, fused=True, rope=_rope(v, layer.attention.spec.head_dim)),
            mlp=replace(layer.mlp, gate="fused"),
            attn_dropout=v["resid_pdrop"],
            mlp_dropout=v["resid_pdrop"],
        )
        for layer in built.layers
    )
    return replace(built, layers=tuple(layers))


def _rope(v: Values, head_dim: int) -> RopeConfig:
    """Rotary positions of a part of each head; `su` and `yarn` are older names of `longrope`.

    Raises:
        ConfigError: a part that cannot be rotated, or a type that HF refuses, too.
    """
    given = v["rope_scaling"] or v["rope_parameters"] or {}
    if not isinstance(given, Mapping):
        return rope(v, head_dim=head_dim)  # raises
    kind = given.get("rope_type", given.get("type", "default"))
    if kind not in ("default", "longrope", "su", "yarn"):
        raise ConfigError(
            f"config.json: rotary positions of type {kind!r}: this family has default and longrope."
        )
    part = given.get("partial_rotary_factor", v["partial_rotary_factor"])
    wrong = number(0.0, 1.0, none=True)(part)
    width = head_dim if wrong or part is None else int(head_dim * part)
    if wrong or width < 2 or width % 2:
        raise ConfigError(
            f"config.json: `partial_rotary_factor` {part!r}: expected a share of a head of {head_dim} that "
            "is an even number, 2 at least."
        )
    flat = {**given, "rope_type": kind if kind == "default" else "longrope", "partial_rotary_factor": None}
    values = {**v, "rope_parameters": flat, "rope_scaling": None, "partial_rotary_factor": None}
    return replace(rope(values, head_dim=width), renewed=kind != "default")


FAMILY = Family(
    model_type="phi3",
    prefix="model",
    config=ConfigTable(
        llama_rows(vocab_size=32064, intermediate_size=8192, max_position_embeddings=4096),
        Key("hidden_size", "hidden_size", integer(1), 3072),
        Key("rms_norm_eps", "norm_eps", number(0.0), 1e-5),
        Key("original_max_position_embeddings", "original_positions", integer(1), 4096),
        Key("pad_token_id", "pad_token_id", integer(none=True), 32000),
        Key("sliding_window", "sliding_window", integer(1, none=True), None),
        Key("resid_pdrop", "resid_pdrop", probability(), 0.0),
        Inert(("embd_pdrop",)),
    ),
    build=build,
    heads={name: head for name, head in heads("Phi3", backbone).items() if name != "qa"},
    buffers=buffers,
    tiny={**TINY, "resid_pdrop": 0.1, "sliding_window": 7},
)
