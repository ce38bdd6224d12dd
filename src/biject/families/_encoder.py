"""What the BERT-like families share: a table of config keys, a post-norm layer, checks, and the
head configs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from biject.config.checks import activation, integer, number, probability
from biject.config.common import COMMON, num_labels
from biject.config.model import HeadConfig
from biject.config.table import Key, Row
from biject.errors import ConfigError
from biject.weights.rules import Slots, join, linear, norm

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


def bert_layer() -> Slots:
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


def encoder_fields(v: Values) -> dict[str, Any]:
    """Fields of `ModelConfig` that the BERT-like families take straight from their config."""
    return {
        "vocab_size": v["vocab_size"],
        "hidden_size": v["hidden_size"],
        "num_attention_heads": v["num_attention_heads"],
        "intermediate_size": v["intermediate_size"],
        "hidden_act": v["hidden_act"],
        "norm_eps": v["norm_eps"],
        "pad_token_id": v["pad_token_id"],
        "num_unique_layers": v["num_hidden_layers"],
        "layer_order": tuple(range(v["num_hidden_layers"])),
        "embedding_dropout": v["hidden_dropout"],
        "attention_dropout": v["attention_dropout"],
        "attention_out_dropout": v["hidden_dropout"],
        "mlp_out_dropout": v["hidden_dropout"],
        "feed_forward_chunk_size": v["feed_forward_chunk_size"],
        "tied_output": v["tie_word_embeddings"],
        "initializer_range": v["initializer_range"],
        "output_hidden_states": bool(v["output_hidden_states"]),
        "output_attentions": bool(v["output_attentions"]),
    }


def first_set(*values: float | None) -> float:
    """The first value that is not null, as HF falls back from `classifier_dropout` to the hidden
    dropout.
    """
    return float(next(value for value in values if value is not None))


def pooled(v: Values, *, dropout: float, **dense: Any) -> HeadConfig:
    """Sequence classification; `dense` describes the layer before the output, if the head has one
    of its own.
    """
    return HeadConfig(
        kind="pooled", num_labels=num_labels(v), problem_type=v["problem_type"], dropout=dropout, **dense
    )


def spans(v: Values, *, dropout: float = 0.0) -> HeadConfig:
    """Extractive question answering."""
    if num_labels(v) != 2:
        raise ConfigError(
            f"config.json: question answering needs 2 labels (start, end), found {num_labels(v)}."
        )
    return HeadConfig(kind="spans", num_labels=2, dropout=dropout)


def tokens(v: Values, *, dropout: float) -> HeadConfig:
    """Token classification."""
    return HeadConfig(kind="tokens", num_labels=num_labels(v), dropout=dropout)


def vocab(v: Values, *, size: int, act: str, bias_added: bool = False) -> HeadConfig:
    """Masked LM."""
    return HeadConfig(
        kind="vocab", num_labels=v["vocab_size"], dense_size=size, act=act, bias_added=bias_added
    )
