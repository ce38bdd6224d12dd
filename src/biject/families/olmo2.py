"""OLMo 2 (OLMo Team 2024, arXiv:2501.00656): LLaMA with norms after attention and MLP instead of before them,
and over all heads of queries and keys as one. Source: transformers 5.23, models/olmo2/modeling_olmo2.py.
"""

from __future__ import annotations

from dataclasses import replace

from biject.config.checks import boolean, integer, number
from biject.config.layers import LayerConfig, NormConfig
from biject.config.model import ModelConfig
from biject.config.table import ConfigTable, Key
from biject.families import _decoder
from biject.families._decoder import TINY, Values, buffers, heads, llama_rows
from biject.families._decoder_names import AFTER
from biject.families._family import Family
from biject.weights.rules import ParamSpecs


def backbone(v: Values) -> ParamSpecs:
    """The transformer."""
    bias = v["attention_bias"]
    return _decoder.backbone(v, qkv_bias=bias, out_bias=bias, mlp_bias=False, qk_norm=True, norms=AFTER)


def build(v: Values, name: str) -> ModelConfig:
    """The modules' config."""
    norm, absent = NormConfig(kind="rms", eps=v["norm_eps"], weight="float32"), NormConfig(kind="none")
    bias = v["attention_bias"]
    built = _decoder.build(v, name, qkv_bias=bias, out_bias=bias)

    def layer(plain: LayerConfig) -> LayerConfig:
        attention = plain.attention
        rope = replace(attention.rope, float32_angles=True)
        return replace(
            plain,
            attention=replace(attention, qk_norm=norm, qk_norm_over="all heads", rope=rope),
            attn_norm=absent,
            attn_out_norm=norm,
            mlp_norm=absent,
            mlp_out_norm=norm,
        )

    return replace(built, layers=tuple(map(layer, built.layers)), final_norm=norm)


_HEADS = heads("Olmo2", backbone)

FAMILY = Family(
    model_type="olmo2",
    prefix="model",
    config=ConfigTable(
        llama_rows(vocab_size=50304, intermediate_size=11008, max_position_embeddings=2048),
        Key("attention_bias", "attention_bias", boolean, False),
        Key("pad_token_id", "pad_token_id", integer(none=True), 1),
        Key("rms_norm_eps", "norm_eps", number(0.0), 1e-5),
    ),
    build=build,
    heads={name: _HEADS[name] for name in ("base", "seqcls", "causal")},
    buffers=buffers,
    tiny=TINY,
)
