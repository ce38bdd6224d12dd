"""RoBERTa (Liu et al. 2019). Source: transformers 5.23, models/roberta/modeling_roberta.py.

BERT's layers; positions count only real tokens, the classifier has its own dense layer, masked LM
always uses erf GELU.
"""

from __future__ import annotations

from dataclasses import replace

from biject.config.heads import DenseConfig
from biject.config.model import ModelConfig
from biject.config.table import ConfigTable
from biject.errors import ConfigError
from biject.families._encoder import (
    CHUNKED,
    CLASSIFIER_DROPOUT,
    Values,
    bert_rows,
    check_sizes,
    embedding,
    encoder,
    layer,
    need_segments,
)
from biject.families._encoder_heads import encoder_head, encoder_heads, first_set, mlm_head
from biject.families._family import Family, Head
from biject.families.bert import TINY, backbone
from biject.weights.rules import ParamSpecs, head, join, linear, norm, output_bias, output_matrix


def build(v: Values, name: str) -> ModelConfig:
    """The modules' config."""
    check_sizes(v)
    if v["pad_token_id"] is None:
        raise ConfigError(
            "config.json: `pad_token_id` is null, but positions count from it (RoBERTa's rule)."
        )
    if v["pad_token_id"] >= v["max_position_embeddings"]:
        raise ConfigError(
            f"config.json: `pad_token_id` {v['pad_token_id']} is not below `max_position_embeddings` "
            f"{v['max_position_embeddings']}, from which the position of padding is taken."
        )
    need_segments(v)
    dropout, width = v["hidden_dropout"], v["hidden_size"]
    one = layer(v, attn_dropout=dropout, mlp_dropout=dropout, chunk_norm=True)
    head_dropout = first_set(v["classifier_dropout"], dropout)
    return encoder(
        v,
        layers=[one] * v["num_hidden_layers"],
        embedding=embedding(v, order=("segments", "positions"), position_rule="after-pad"),
        head=encoder_head(
            v,
            name,
            dropout=head_dropout,
            mlm=mlm_head(v, size=width, act="gelu"),
            pooler=name == "base",
            dropout_in=head_dropout,
            dense=DenseConfig(size=width, act="tanh"),
        ),
    )


def mlm(v: Values) -> ParamSpecs:
    """The masked-LM head."""
    return join(
        head(linear("head.dense", "lm_head.dense"), norm("head.norm", "lm_head.layer_norm")),
        output_matrix("head.decoder.weight", "lm_head.decoder.weight", tied_to="embed.tokens.weight"),
        output_bias("head.decoder.bias", "lm_head.decoder.bias", alias="lm_head.bias"),
    )


def _classes(stem: str) -> dict[str, Head]:
    classify = join(linear("head.dense", "classifier.dense"), linear("head.out", "classifier.out_proj"))
    return encoder_heads(stem, backbone, mlm=mlm, seqcls=classify, pooler="pooler.dense")


def _table(*, vocab_size: int) -> ConfigTable:
    rows = bert_rows(vocab_size=vocab_size, type_vocab_size=2, pad_token_id=1)
    return ConfigTable(rows, CLASSIFIER_DROPOUT, CHUNKED)


FAMILY = Family(
    model_type="roberta",
    prefix="roberta",
    config=_table(vocab_size=50265),
    build=build,
    heads=_classes("Roberta"),
    passthrough=("embeddings.position_ids", "embeddings.token_type_ids"),
    tiny={**TINY, "pad_token_id": 1, "type_vocab_size": 1},
    base={
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "vocab_size": 50265,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
    },
)


def cousin(model_type: str, stem: str, *, vocab_size: int, base: dict[str, object]) -> Family:
    """A family with RoBERTa's maths and names, and another `model_type`, class stem and default
    vocabulary.
    """
    return replace(
        FAMILY,
        model_type=model_type,
        config=_table(vocab_size=vocab_size),
        heads=_classes(stem),
        base={**FAMILY.base, **base},
    )
