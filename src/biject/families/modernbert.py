"""ModernBERT (Warner et al. 2024). Source: transformers 5.23, models/modernbert/modeling_modernbert.py.

Pre-norm layers with fused matrices, rotary positions computed in float32, and two kinds of attention in turn:
over all tokens, and over a window to both sides with a rotary base of its own. The first layer's attention
has no norm, every head but the base has a dense layer and a norm before its output.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from biject.config.checks import activation, boolean, choice, integer, number, probability
from biject.config.common import ROTARY_COMMON
from biject.config.heads import DenseConfig, VocabHeadConfig
from biject.config.layers import AttentionConfig, AttentionSpec, LayerConfig, MLPConfig, NormConfig
from biject.config.model import EmbeddingConfig, ModelConfig
from biject.config.table import ConfigTable, Const, Inert, Key
from biject.errors import ConfigError
from biject.families._encoder import Values, check_sizes, encoder
from biject.families._encoder_heads import encoder_head, encoder_heads
from biject.families._family import Family, Init
from biject.families._layer_types import layer_type_rows, layer_types, rope_by_type
from biject.families._modernbert_names import backbone, dense, mlm

_HALF_WINDOW = 64  # HF's default
_DROPOUTS = ("embedding_dropout", "attention_dropout", "mlp_dropout", "classifier_dropout")
_BIASES = ("norm_bias", "attention_bias", "mlp_bias", "classifier_bias", "decoder_bias")


def _layer(v: Values, kind: str, attn_norm: NormConfig, mlp_norm: NormConfig) -> LayerConfig:
    width, heads = v["hidden_size"], v["num_attention_heads"]
    spec = AttentionSpec(
        num_heads=heads,
        num_key_value_heads=heads,
        head_dim=width // heads,
        scale=(width // heads) ** -0.5,
        window=_half_window(v) if kind == "sliding_attention" else None,
        dropout=v["attention_dropout"],
        softmax="float32",
    )
    rope = replace(rope_by_type(v, kind, head_dim=width // heads), float32=True)
    bias: dict[str, Any] = {"qkv_bias": v["attention_bias"], "out_bias": v["attention_bias"]}
    return LayerConfig(
        hidden_size=width,
        attention=AttentionConfig(hidden_size=width, spec=spec, fused=True, rope=rope, **bias),
        mlp=MLPConfig(
            hidden_size=width,
            intermediate_size=v["intermediate_size"],
            act=v["hidden_act"],
            gate="fused",
            bias=v["mlp_bias"],
            dropout=v["mlp_dropout"],
        ),
        attn_norm=attn_norm,
        mlp_norm=mlp_norm,
        placement="pre",
        attn_dropout=v["attention_dropout"],
    )


def _half_window(v: Values) -> int:
    """How far a window reaches to either side: half of `local_attention`, or `sliding_window`, by which HF's
    config sets the former.

    Raises:
        ConfigError: the two contradict each other.
    """
    whole, half = v["local_attention"], v["sliding_window"]
    if whole is None:
        return _HALF_WINDOW if half is None else int(half)
    if half not in (None, whole // 2):
        raise ConfigError(
            f"config.json: `local_attention` is {whole}, a window of {whole // 2} to either side, but "
            f"`sliding_window`, another name of that half, is {half}: keep the right one only."
        )
    return int(whole // 2)


def build(v: Values, name: str) -> ModelConfig:
    """The modules' config."""
    check_sizes(v)
    one = NormConfig(kind="layer", eps=v["norm_eps"], bias=v["norm_bias"])
    first = [NormConfig(kind="none")] + [one] * (v["num_hidden_layers"] - 1)
    before = DenseConfig(
        size=v["hidden_size"], act=v["classifier_activation"], bias=v["classifier_bias"], norm=one
    )
    return encoder(
        v,
        layers=[_layer(v, kind, norm, one) for kind, norm in zip(layer_types(v), first, strict=True)],
        embedding=EmbeddingConfig(
            size=v["hidden_size"],
            max_position_embeddings=v["max_position_embeddings"],
            norm=one,
            dropout=v["embedding_dropout"],
        ),
        final_norm=one,
        head=encoder_head(
            v,
            name,
            dropout=v["classifier_dropout"],
            mlm=VocabHeadConfig(
                num_labels=v["vocab_size"], dense=before, out_bias=v["decoder_bias"], float32_loss=True
            ),
            qa_dropout=v["classifier_dropout"],
            row_dense=before,
            dense=before,
            pooling="first" if v["classifier_pooling"] == "cls" else "mean",
        ),
    )


def init(v: Values, memory: str) -> Init:
    """HF's standard deviations by role, cut off on both sides (`_init_weights`)."""
    std, cutoff = v["initializer_range"], v["initializer_cutoff_factor"]
    if memory.startswith("head.out"):
        std = v["hidden_size"] ** -0.5
    elif memory.startswith("head.") or ".o_proj" in memory or ".down_proj" in memory:
        std /= math.sqrt(2.0 * v["num_hidden_layers"])
    return Init(std, 3.0 if cutoff is None else cutoff)


FAMILY = Family(
    model_type="modernbert",
    prefix="model",
    config=ConfigTable(
        ROTARY_COMMON,
        layer_type_rows(global_base=160000.0, local_base=10000.0, every=3),
        Key("vocab_size", "vocab_size", integer(1), 50368),
        Key("hidden_size", "hidden_size", integer(1), 768),
        Key("intermediate_size", "intermediate_size", integer(1), 1152),
        Key("num_hidden_layers", "num_hidden_layers", integer(1), 22),
        Key("num_attention_heads", "num_attention_heads", integer(1), 12),
        Key("hidden_activation", "hidden_act", activation, "gelu"),
        Key("max_position_embeddings", "max_position_embeddings", integer(1), 8192),
        Key("local_attention", "local_attention", integer(0, none=True), None),
        Key("sliding_window", "sliding_window", integer(0, none=True), None),
        Key("norm_eps", "norm_eps", number(0.0), 1e-5),
        Key("pad_token_id", "pad_token_id", integer(0, none=True), 50283),
        [Key(name, name, probability(), 0.0) for name in _DROPOUTS],
        [Key(name, name, boolean, name == "decoder_bias") for name in _BIASES],
        Key("initializer_cutoff_factor", "initializer_cutoff_factor", number(0.0, none=True), 2.0),
        Key("classifier_pooling", "classifier_pooling", choice("cls", "mean"), "cls"),
        Key("classifier_activation", "classifier_activation", activation, "gelu"),
        Const("sparse_prediction", (False, None), "logits of masked tokens only are not computed"),
        Inert(("sparse_pred_ignore_index", "deterministic_flash_attn", "reference_compile")),
        Inert(("repad_logits_with_grad", "layer_norm_eps", "chunk_size_feed_forward")),
    ),
    build=build,
    init=init,
    heads=encoder_heads("ModernBert", backbone, mlm=mlm, dense=dense, qa="classifier"),
    tiny={
        "vocab_size": 384,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "local_attention": 8,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "cls_token_id": 1,
        "sep_token_id": 2,
        **dict.fromkeys(_DROPOUTS, 0.1),
    },
)
