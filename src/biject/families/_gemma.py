"""What Gemma 2 and Gemma 3 share: four norms a layer, scaled embeddings, capped scores and logits, two kinds
of attention. Source: transformers 5.23, models/gemma2/modeling_gemma2.py, models/gemma3/modeling_gemma3.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from biject.config.checks import activation, anything, boolean, integer, limit, number, probability
from biject.config.common import causal_rows
from biject.config.layers import LayerConfig, NormConfig
from biject.config.model import ModelConfig
from biject.config.rope import RopeConfig
from biject.config.table import Const, Inert, Key, Row
from biject.errors import ConfigError
from biject.families import _decoder
from biject.families._decoder_heads import DROPOUTS, Values
from biject.families._decoder_names import AFTER
from biject.weights.rules import ParamSpecs

KINDS = ("sliding_attention", "full_attention")
_NORMS = {**AFTER, "attn_norm": "input_layernorm", "mlp_norm": "pre_feedforward_layernorm"}


def gemma_rows(
    *, vocab_size: int, max_position_embeddings: int, final_softcap: float | None
) -> tuple[Row, ...]:
    """Config keys; the arguments are HF's defaults."""
    return (
        *causal_rows(tied=True),
        *DROPOUTS,
        Key("vocab_size", "vocab_size", integer(1), vocab_size),
        Key("hidden_size", "hidden_size", integer(1), 2304),
        Key("num_hidden_layers", "num_hidden_layers", integer(1), 26),
        Key("num_attention_heads", "num_attention_heads", integer(1), 8),
        Key("num_key_value_heads", "num_key_value_heads", integer(1), 4),
        Key("head_dim", "head_dim", integer(1), 256),
        Key("intermediate_size", "intermediate_size", integer(1), 9216),
        Key("hidden_activation", "hidden_act", activation, "gelu_pytorch_tanh"),
        Key("max_position_embeddings", "max_position_embeddings", integer(1), max_position_embeddings),
        Key("rms_norm_eps", "norm_eps", number(0.0), 1e-6),
        Key("attention_dropout", "attention_dropout", probability(), 0.0),
        Key("attention_bias", "attention_bias", boolean, False),
        Key("pad_token_id", "pad_token_id", integer(none=True), 0),
        Key("query_pre_attn_scalar", "query_pre_attn_scalar", integer(1), 256),
        Key("sliding_window", "sliding_window", integer(1), 4096),
        Key("layer_types", "layer_types", anything, None),
        Key("final_logit_softcapping", "final_softcap", limit, final_softcap),
        Const(
            "use_bidirectional_attention", (False, None), "this family is computed with causal attention only"
        ),
        Inert(("cache_implementation", "hidden_act")),
    )


def backbone(v: Values, *, qk_norm: bool) -> ParamSpecs:
    """The transformer."""
    bias = v["attention_bias"]
    return _decoder.backbone(v, qkv_bias=bias, out_bias=bias, mlp_bias=False, qk_norm=qk_norm, norms=_NORMS)


def build(
    v: Values,
    name: str,
    *,
    kinds: Sequence[str],
    ropes: Sequence[RopeConfig],
    qk_norm: bool,
    written_out: bool,
) -> ModelConfig:
    """The modules' config; `kinds` and `ropes`: of each layer's attention."""
    if v["hidden_size"] % v["num_attention_heads"]:
        raise ConfigError(
            f"config.json: `hidden_size` {v['hidden_size']} is not a multiple of `num_attention_heads` "
            f"{v['num_attention_heads']}; transformers refuses such a config, too."
        )
    norm = NormConfig(kind="rms", eps=v["norm_eps"], weight="from-one")
    unsaid = dict.fromkeys(("rope_parameters", "rope_scaling", "partial_rotary_factor"))
    plain = {**v, **unsaid, "rope_theta": 1.0}  # each layer gets its own below
    bias = v["attention_bias"]
    built = _decoder.build(
        plain,
        name,
        qkv_bias=bias,
        out_bias=bias,
        qk_norm=qk_norm,
        windows=[v["sliding_window"] if kind == "sliding_attention" else None for kind in kinds],
    )
    changes: dict[str, Any] = {
        "scale": v["query_pre_attn_scalar"] ** -0.5,
        "softcap": v.get("attn_softcap"),
        "written_out": written_out,
    }

    def layer(plain: LayerConfig, rope: RopeConfig) -> LayerConfig:
        attention = plain.attention
        spec = replace(attention.spec, **changes)
        return replace(
            plain,
            attention=replace(attention, spec=spec, qk_norm=norm if qk_norm else None, rope=rope),
            attn_norm=norm,
            attn_out_norm=norm,
            mlp_norm=norm,
            mlp_out_norm=norm,
        )

    return replace(
        built,
        layers=tuple(map(layer, built.layers, ropes)),
        embedding=replace(built.embedding, scale=v["hidden_size"] ** 0.5),
        final_norm=norm,
    )


def layer_kinds(v: Values, *, every: int) -> list[str]:
    """The kind of attention of each layer: as listed, else every n-th one over all tokens.

    Raises:
        ConfigError: kinds that HF does not compute either.
    """
    count, listed = v["num_hidden_layers"], v["layer_types"]
    if listed is None:
        return ["sliding_attention" if (i + 1) % every else "full_attention" for i in range(count)]
    if (
        not isinstance(listed, list | tuple)
        or len(listed) != count
        or any(one not in KINDS for one in listed)
    ):
        raise ConfigError(
            f"config.json: `layer_types` should name {' or '.join(KINDS)} for each of {count} layers."
        )
    return list(listed)
