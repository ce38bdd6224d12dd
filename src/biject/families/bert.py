"""BERT (Devlin et al. 2018). Source: transformers 5.23, models/bert/modeling_bert.py."""

from __future__ import annotations

from biject.config.model import EmbeddingConfig, HeadConfig, ModelConfig
from biject.config.table import ConfigTable, Inert
from biject.families._encoder import (
    CHUNKED,
    CLASSIFIER_DROPOUT,
    Values,
    bert_layer,
    bert_rows,
    check_sizes,
    encoder_fields,
    first_set,
    need_segments,
    pooled,
    spans,
    tokens,
    vocab,
)
from biject.families._family import Family, Head
from biject.weights.rules import (
    Slots,
    embed,
    head,
    join,
    layers,
    linear,
    norm,
    optional,
    output_bias,
    output_matrix,
)


def backbone(v: Values) -> Slots:
    """The transformer without pooler; cousins share it."""
    return join(
        embed("embed.tokens", "embeddings.word_embeddings"),
        embed("embed.positions", "embeddings.position_embeddings"),
        embed("embed.segments", "embeddings.token_type_embeddings"),
        norm("embed_norm", "embeddings.LayerNorm"),
        layers([f"encoder.layer.{i}" for i in range(v["num_hidden_layers"])], bert_layer()),
    )


def pooler() -> Slots:
    """The tanh layer over the first row."""
    return linear("pooler", "pooler.dense")


def _mlm(v: Values) -> Slots:
    return join(
        backbone(v),
        head(
            linear("head.dense", "cls.predictions.transform.dense"),
            norm("head.norm", "cls.predictions.transform.LayerNorm"),
        ),
        output_matrix("head.decoder.weight", "cls.predictions.decoder.weight", tied_to="embed.tokens.weight"),
        output_bias("head.decoder.bias", "cls.predictions.decoder.bias", twin="cls.predictions.bias"),
    )


def build(v: Values, name: str) -> ModelConfig:
    """The modules' config."""
    check_sizes(v)
    need_segments(v)
    return ModelConfig(
        **encoder_fields(v),
        feed_forward_chunk_norm=True,
        embedding=EmbeddingConfig(
            size=v["hidden_size"],
            order=("segments", "positions"),
            position_rule="arange",
            max_position_embeddings=v["max_position_embeddings"],
            type_vocab_size=v["type_vocab_size"],
        ),
        pooler=name in ("base", "seqcls"),
        head=_head(v, name),
    )


def _head(v: Values, name: str) -> HeadConfig | None:
    dropout = first_set(v["classifier_dropout"], v["hidden_dropout"])
    match name:
        case "seqcls":
            return pooled(v, dropout=dropout)
        case "tokcls":
            return tokens(v, dropout=dropout)
        case "qa":
            return spans(v)
        case "mlm":
            return vocab(v, size=v["hidden_size"], act=v["hidden_act"])
    return None


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
    heads={
        "base": Head(hf_class="BertModel", slots=lambda v: join(backbone(v), optional(pooler()))),
        "seqcls": Head(
            hf_class="BertForSequenceClassification",
            slots=lambda v: join(backbone(v), pooler(), head(linear("head.out", "classifier"))),
        ),
        "tokcls": Head(
            hf_class="BertForTokenClassification",
            slots=lambda v: join(backbone(v), head(linear("head.out", "classifier"))),
        ),
        "qa": Head(
            hf_class="BertForQuestionAnswering",
            slots=lambda v: join(backbone(v), head(linear("head.out", "qa_outputs"))),
        ),
        "mlm": Head(hf_class="BertForMaskedLM", slots=_mlm, also=("BertForPreTraining",)),
    },
    carry=(
        "embeddings.position_ids",
        "embeddings.token_type_ids",
        "cls.seq_relationship.weight",
        "cls.seq_relationship.bias",
    ),
    tiny=TINY,
    base={**_SIZES, "vocab_size": 30522, "max_position_embeddings": 512, "type_vocab_size": 2},
)
