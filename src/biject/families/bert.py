"""BERT (Devlin et al. 2018). Source: transformers 5.23, models/bert/modeling_bert.py."""

from __future__ import annotations

from biject.config.common import num_labels
from biject.config.model import EmbeddingConfig, HeadConfig, ModelConfig
from biject.config.table import ConfigTable, Inert
from biject.families._encoder import (
    CLASSIFIER_DROPOUT,
    Values,
    bert_layer,
    bert_rows,
    check_sizes,
    first_set,
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
    classifier_dropout = first_set(v["classifier_dropout"], v["hidden_dropout"])
    heads = {
        "base": lambda: None,
        "seqcls": lambda: HeadConfig(
            kind="pooled", num_labels=num_labels(v), problem_type=v["problem_type"], dropout=classifier_dropout
        ),
        "tokcls": lambda: tokens(v, dropout=classifier_dropout),
        "qa": lambda: spans(v),
        "mlm": lambda: vocab(v, size=v["hidden_size"], act=v["hidden_act"]),
    }
    return ModelConfig(
        **encoder_fields(v),
        embedding=EmbeddingConfig(
            size=v["hidden_size"],
            order=("segments", "positions"),
            position_rule="arange",
            max_position_embeddings=v["max_position_embeddings"],
            type_vocab_size=v["type_vocab_size"],
        ),
        pooler=name in ("base", "seqcls"),
        head=heads[name](),
    )


def encoder_fields(v: Values) -> dict[str, object]:
    """Fields of `ModelConfig` that BERT and its cousins take straight from their config."""
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
        "feed_forward_chunk_norm": True,
        "tied_output": v["tie_word_embeddings"],
        "initializer_range": v["initializer_range"],
        "output_hidden_states": bool(v["output_hidden_states"]),
        "output_attentions": bool(v["output_attentions"]),
    }


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
