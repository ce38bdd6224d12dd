"""What the BERT-like families share: a table of config keys, a post-norm layer, and checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from biject.config.checks import activation, integer, number, probability
from biject.config.common import COMMON
from biject.config.layers import (
    AttentionConfig,
    AttentionSpec,
    ConvConfig,
    LayerConfig,
    MLPConfig,
    NormConfig,
    RelativeConfig,
)
from biject.config.model import EmbeddingConfig, ModelConfig, Table
from biject.config.table import Key, Row
from biject.errors import ConfigError
from biject.weights.rules import ParamSpecs, join, linear, norm

Values = Mapping[str, Any]


def bert_rows(
    *,
    vocab_size: int,
    type_vocab_size: int,
    pad_token_id: int,
    norm_eps: float = 1e-12,
    hidden_size: int = 768,
    num_layers: int = 12,
    num_heads: int = 12,
    intermediate_size: int = 3072,
) -> tuple[Row, ...]:
    """Keys of BERT's vocabulary of sizes; the arguments are HF's defaults (configuration_bert.py and
    cousins, 5.23).
    """
    return (
        *COMMON,
        Key("vocab_size", "vocab_size", integer(1), vocab_size),
        Key("hidden_size", "hidden_size", integer(1), hidden_size),
        Key("num_hidden_layers", "num_hidden_layers", integer(1), num_layers),
        Key("num_attention_heads", "num_attention_heads", integer(1), num_heads),
        Key("intermediate_size", "intermediate_size", integer(1), intermediate_size),
        Key("hidden_act", "hidden_act", activation, "gelu"),
        Key("hidden_dropout_prob", "hidden_dropout", probability(), 0.1),
        Key("attention_probs_dropout_prob", "attention_dropout", probability(), 0.1),
        Key("max_position_embeddings", "max_position_embeddings", integer(1), 512),
        Key("type_vocab_size", "type_vocab_size", integer(0), type_vocab_size),
        Key("layer_norm_eps", "norm_eps", number(0.0), norm_eps),
        Key("pad_token_id", "pad_token_id", integer(0, none=True), pad_token_id),
    )


CHUNKED = Key("chunk_size_feed_forward", "feed_forward_chunk_size", integer(0), 0)
CLASSIFIER_DROPOUT = Key("classifier_dropout", "classifier_dropout", probability(none=True), None)


def bert_layer() -> ParamSpecs:
    """Names inside one BERT layer, relative to it."""
    return join(
        linear("attn.q_proj", "attention.self.query"),
        linear("attn.k_proj", "attention.self.key"),
        linear("attn.v_proj", "attention.self.value"),
        linear("attn.o_proj", "attention.output.dense"),
        norm("attn_norm", "attention.output.LayerNorm"),
        linear("mlp.up_proj", "intermediate.dense"),
        linear("mlp.down_proj", "output.dense"),
        norm("mlp_norm", "output.LayerNorm"),
    )


def check_sizes(v: Values) -> None:
    """Raise where sizes contradict each other; HF crashes on these."""
    if v["hidden_size"] % v["num_attention_heads"]:
        raise ConfigError(
            f"config.json: `hidden_size` {v['hidden_size']} is not a multiple of `num_attention_heads` "
            f"{v['num_attention_heads']}."
        )
    if v["pad_token_id"] is not None and v["pad_token_id"] >= v["vocab_size"]:
        raise ConfigError(
            f"config.json: `pad_token_id` {v['pad_token_id']} is not below `vocab_size` {v['vocab_size']}."
        )


def need_segments(v: Values) -> None:
    """Raise where there is no row for segment 0, which these families always add."""
    if v["type_vocab_size"] < 1:
        raise ConfigError("config.json: `type_vocab_size` should be at least 1, found 0.")


def layer(
    v: Values,
    *,
    attn_dropout: float,
    mlp_dropout: float,
    chunk_norm: bool = False,
    relative: RelativeConfig | None = None,
    conv: ConvConfig | None = None,
) -> LayerConfig:
    """A post-norm layer of BERT's kind."""
    width, heads = v["hidden_size"], v["num_attention_heads"]
    norm = NormConfig(kind="layer", eps=v["norm_eps"])
    spec = AttentionSpec(
        num_heads=heads,
        num_key_value_heads=heads,
        head_dim=width // heads,
        scale=(width // heads) ** -0.5,
        mask_queries=relative is not None,
        dropout=v["attention_dropout"],
    )
    return LayerConfig(
        hidden_size=width,
        attention=AttentionConfig(hidden_size=width, spec=spec, relative=relative),
        mlp=MLPConfig(hidden_size=width, intermediate_size=v["intermediate_size"], act=v["hidden_act"]),
        attn_norm=norm,
        mlp_norm=norm,
        placement="post",
        attn_dropout=attn_dropout,
        mlp_dropout=mlp_dropout,
        mlp_chunk_size=v["feed_forward_chunk_size"],
        mlp_chunk_norm=chunk_norm,
        conv=conv,
    )


def embedding(v: Values, *, order: tuple[Table, ...], **options: Any) -> EmbeddingConfig:
    """Tables of the hidden size, unless `options` say otherwise, with a norm over their sum."""
    given = {
        "size": v["hidden_size"],
        "position_rule": "arange",
        "max_position_embeddings": v["max_position_embeddings"],
        "type_vocab_size": v["type_vocab_size"] if "segments" in order else 0,
        "norm": NormConfig(kind="layer", eps=v["norm_eps"]),
        "dropout": v["hidden_dropout"],
    }
    return EmbeddingConfig(order=order, **{**given, **options})


def encoder(v: Values, *, layers: Sequence[LayerConfig], **parts: Any) -> ModelConfig:
    """The config of a model that runs its layers in order, unless `parts` say otherwise."""
    given = {
        "vocab_size": v["vocab_size"],
        "hidden_size": v["hidden_size"],
        "pad_token_id": v["pad_token_id"],
        "layer_order": tuple(range(len(layers))),
        "tied_output": v["tie_word_embeddings"],
        "initializer_range": v["initializer_range"],
        "output_hidden_states": bool(v["output_hidden_states"]),
        "output_attentions": bool(v["output_attentions"]),
    }
    return ModelConfig(layers=tuple(layers), **{**given, **parts})
