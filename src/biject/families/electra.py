"""ELECTRA (Clark et al. 2020): generator and discriminator. Source: transformers 5.23, modeling_electra.py.

BERT's layers under a small embedding that a linear lifts only where its width differs; no pooler. The
discriminator's own head (`ElectraForPreTraining`) is `rtd`, the generator is `mlm`; both its dense layer
and the classifier's use erf GELU whatever `hidden_act` says.
"""

from __future__ import annotations

from dataclasses import replace

from biject.config.checks import integer
from biject.config.heads import DenseConfig, DetectionHeadConfig, HeadConfig
from biject.config.model import ModelConfig
from biject.config.table import ConfigTable, Inert, Key
from biject.families import bert
from biject.families._encoder import CHUNKED, CLASSIFIER_DROPOUT, Values, bert_rows
from biject.families._encoder_heads import encoder_head, encoder_heads, first_set, mlm_head
from biject.families._family import Family, Head
from biject.weights.rules import ParamSpecs, head, join, linear, norm, output_matrix


def backbone(v: Values) -> ParamSpecs:
    """BERT's, and the linear after the embedding where there is one."""
    lifted = v["embedding_size"] != v["hidden_size"]
    return join(bert.backbone(v), linear("embed_proj", "embeddings_project") if lifted else ())


def mlm(v: Values) -> ParamSpecs:
    """The masked-LM head (the generator's)."""
    return join(
        head(
            linear("head.dense", "generator_predictions.dense"),
            norm("head.norm", "generator_predictions.LayerNorm"),
        ),
        output_matrix("head.decoder.weight", "generator_lm_head.weight", tied_to="embed.tokens.weight"),
        head(linear("head.decoder", "generator_lm_head")[1:]),
    )


def detection(v: Values) -> ParamSpecs:
    """The discriminator's own head."""
    return head(
        linear("head.dense", "discriminator_predictions.dense"),
        linear("head.out", "discriminator_predictions.dense_prediction"),
    )


def build(v: Values, name: str) -> ModelConfig:
    """BERT's config with another embedding, no pooler, and ELECTRA's heads."""
    config = bert.build(v, "base")
    lifted = v["embedding_size"] != v["hidden_size"]
    embedding = replace(
        config.embedding, size=v["embedding_size"], projection="after-norm" if lifted else "none"
    )
    return replace(config, embedding=embedding, head=_head(v, name))


def _head(v: Values, name: str) -> HeadConfig:
    width, dropout = v["hidden_size"], first_set(v["classifier_dropout"], v["hidden_dropout"])
    if name == "rtd":
        return DetectionHeadConfig(num_labels=1, dense=DenseConfig(size=width, act=v["hidden_act"]))
    return encoder_head(
        v,
        name,
        dropout=dropout,
        mlm=mlm_head(v, size=v["embedding_size"], act="gelu"),
        dropout_in=dropout,
        dense=DenseConfig(size=width, act="gelu"),
    )


FAMILY = Family(
    model_type="electra",
    prefix="electra",
    config=ConfigTable(
        bert_rows(
            vocab_size=30522,
            type_vocab_size=2,
            pad_token_id=0,
            hidden_size=256,
            num_heads=4,
            intermediate_size=1024,
        ),
        Key("embedding_size", "embedding_size", integer(1), 128),
        CLASSIFIER_DROPOUT,
        CHUNKED,
        Inert(("summary_type", "summary_use_proj", "summary_activation", "summary_last_dropout")),
    ),
    build=build,
    heads={
        **encoder_heads(
            "Electra",
            backbone,
            mlm=mlm,
            seqcls=join(linear("head.dense", "classifier.dense"), linear("head.out", "classifier.out_proj")),
        ),
        "rtd": Head(hf_class="ElectraForPreTraining", specs=lambda v: join(backbone(v), detection(v))),
    },
    passthrough=("embeddings.position_ids", "embeddings.token_type_ids"),
    tiny={**bert.TINY, "embedding_size": 16},
    base={
        "vocab_size": 30522,
        "embedding_size": 768,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
    },
)
