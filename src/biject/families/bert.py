"""BERT (Devlin et al. 2018). Source: transformers 5.23, models/bert/modeling_bert.py."""

from __future__ import annotations

from biject.config.model import ModelConfig
from biject.config.table import ConfigTable, Inert
from biject.families._encoder import (
    CHUNKED,
    CLASSIFIER_DROPOUT,
    Values,
    bert_layer,
    bert_rows,
    check_sizes,
    embedding,
    encoder,
    layer,
    need_segments,
)
from biject.families._encoder_heads import encoder_head, encoder_heads, first_set, mlm_head
from biject.families._family import Family
from biject.weights.rules import (
    ParamSpecs,
    embed,
    head,
    join,
    layers,
    linear,
    norm,
    output_bias,
    output_matrix,
)


def backbone(v: Values) -> ParamSpecs:
    """The transformer without pooler; cousins share it."""
    return join(
        embed("embed.tokens", "embeddings.word_embeddings"),
        embed("embed.positions", "embeddings.position_embeddings"),
        embed("embed.segments", "embeddings.token_type_embeddings"),
        norm("embed_norm", "embeddings.LayerNorm"),
        layers([f"encoder.layer.{i}" for i in range(v["num_hidden_layers"])], bert_layer()),
    )


def mlm(v: Values) -> ParamSpecs:
    """The masked-LM head."""
    return join(
        head(
            linear("head.dense", "cls.predictions.transform.dense"),
            norm("head.norm", "cls.predictions.transform.LayerNorm"),
        ),
        output_matrix("head.decoder.weight", "cls.predictions.decoder.weight", tied_to="embed.tokens.weight"),
        output_bias("head.decoder.bias", "cls.predictions.decoder.bias", alias="cls.predictions.bias"),
    )


def build(v: Values, name: str) -> ModelConfig:
    """The modules' config."""
    check_sizes(v)
    need_segments(v)
    dropout = v["hidden_dropout"]
    one = layer(v, attn_dropout=dropout, mlp_dropout=dropout, chunk_norm=True)
    return encoder(
        v,
        layers=[one] * v["num_hidden_layers"],
        embedding=embedding(v, order=("segments", "positions")),
        head=encoder_head(
            v,
            name,
            dropout=first_set(v["classifier_dropout"], dropout),
            mlm=mlm_head(v, size=v["hidden_size"], act=v["hidden_act"]),
            pooler=True,
        ),
    )


_SIZES = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
TINY = {
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
}

FAMILY = Family(
    model_type="bert",
    prefix="bert",
    config=ConfigTable(
        bert_rows(vocab_size=30522, type_vocab_size=2, pad_token_id=0),
        CLASSIFIER_DROPOUT,
        CHUNKED,
        Inert(
            (
                "directionality",
                "pooler_fc_size",
                "pooler_num_attention_heads",
                "pooler_num_fc_layers",
                "pooler_size_per_head",
                "pooler_type",
            )
        ),
    ),
    build=build,
    heads=encoder_heads("Bert", backbone, mlm=mlm, pooler="pooler.dense", also_mlm=("BertForPreTraining",)),
    passthrough=(
        "embeddings.position_ids",
        "embeddings.token_type_ids",
        "cls.seq_relationship.weight",
        "cls.seq_relationship.bias",
    ),
    tiny=TINY,
    base={**_SIZES, "vocab_size": 30522, "max_position_embeddings": 512, "type_vocab_size": 2},
)
