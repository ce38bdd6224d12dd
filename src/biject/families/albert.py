"""ALBERT (Lan et al. 2019). Source: transformers 5.23, models/albert/modeling_albert.py.

A small embedding, lifted by a linear after its norm; few layers that run many times; no dropout
after the MLP.
"""

from __future__ import annotations

from biject.config.checks import activation, integer, number, probability
from biject.config.common import COMMON
from biject.config.model import ModelConfig
from biject.config.table import ConfigTable, Inert, Key
from biject.families._encoder import (
    CHUNKED,
    Values,
    check_sizes,
    embedding,
    encoder,
    layer,
    need_segments,
)
from biject.families._encoder_heads import encoder_head, encoder_heads, mlm_head
from biject.families._family import Family
from biject.families.bert import TINY
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
    """The transformer without pooler."""
    groups = [(g, k) for g in range(v["num_hidden_groups"]) for k in range(v["inner_group_num"])]
    return join(
        embed("embed.tokens", "embeddings.word_embeddings"),
        embed("embed.positions", "embeddings.position_embeddings"),
        embed("embed.segments", "embeddings.token_type_embeddings"),
        norm("embed_norm", "embeddings.LayerNorm"),
        linear("embed_proj", "encoder.embedding_hidden_mapping_in"),
        layers(
            [f"encoder.albert_layer_groups.{g}.albert_layers.{k}" for g, k in groups],
            linear("attn.q_proj", "attention.query"),
            linear("attn.k_proj", "attention.key"),
            linear("attn.v_proj", "attention.value"),
            linear("attn.o_proj", "attention.dense"),
            norm("attn_norm", "attention.LayerNorm"),
            linear("mlp.up_proj", "ffn"),
            linear("mlp.down_proj", "ffn_output"),
            norm("mlp_norm", "full_layer_layer_norm"),
        ),
    )


def layer_order(v: Values) -> tuple[int, ...]:
    """The layer that runs at each step: HF's group index, and every inner layer of the group in turn."""
    steps, groups, inner = v["num_hidden_layers"], v["num_hidden_groups"], v["inner_group_num"]
    return tuple(int(i / (steps / groups)) * inner + k for i in range(steps) for k in range(inner))


def depth(v: Values) -> tuple[int, int]:
    """Layers with tensors of their own, and layers that run."""
    return v["num_hidden_groups"] * v["inner_group_num"], v["num_hidden_layers"] * v["inner_group_num"]


def build(v: Values, name: str) -> ModelConfig:
    """The modules' config."""
    check_sizes(v)
    need_segments(v)
    one = layer(v, attn_dropout=v["hidden_dropout"], mlp_dropout=0.0)
    return encoder(
        v,
        layers=[one] * (v["num_hidden_groups"] * v["inner_group_num"]),
        layer_order=layer_order(v),
        embedding=embedding(
            v, order=("segments", "positions"), size=v["embedding_size"], projection="after-norm"
        ),
        head=encoder_head(
            v,
            name,
            dropout=v["classifier_dropout"],
            mlm=mlm_head(v, size=v["embedding_size"], act=v["hidden_act"]),
            pooler=True,
        ),
    )


def mlm(v: Values) -> ParamSpecs:
    """The masked-LM head."""
    return join(
        head(linear("head.dense", "predictions.dense"), norm("head.norm", "predictions.LayerNorm")),
        output_matrix("head.decoder.weight", "predictions.decoder.weight", tied_to="embed.tokens.weight"),
        output_bias("head.decoder.bias", "predictions.decoder.bias", alias="predictions.bias"),
    )


FAMILY = Family(
    model_type="albert",
    prefix="albert",
    config=ConfigTable(
        COMMON,
        Key("vocab_size", "vocab_size", integer(1), 30000),
        Key("embedding_size", "embedding_size", integer(1), 128),
        Key("hidden_size", "hidden_size", integer(1), 4096),
        Key("num_hidden_layers", "num_hidden_layers", integer(1), 12),
        Key("num_hidden_groups", "num_hidden_groups", integer(1), 1),
        Key("inner_group_num", "inner_group_num", integer(1), 1),
        Key("num_attention_heads", "num_attention_heads", integer(1), 64),
        Key("intermediate_size", "intermediate_size", integer(1), 16384),
        Key("hidden_act", "hidden_act", activation, "gelu_new"),
        Key("hidden_dropout_prob", "hidden_dropout", probability(), 0.0),
        Key("attention_probs_dropout_prob", "attention_dropout", probability(), 0.0),
        Key("classifier_dropout_prob", "classifier_dropout", probability(), 0.1),
        Key("max_position_embeddings", "max_position_embeddings", integer(1), 512),
        Key("type_vocab_size", "type_vocab_size", integer(0), 2),
        Key("layer_norm_eps", "norm_eps", number(0.0), 1e-12),
        Key("pad_token_id", "pad_token_id", integer(0, none=True), 0),
        CHUNKED,
        Inert(("down_scale_factor", "gap_size", "net_structure_type", "num_memory_blocks", "layers_to_keep")),
    ),
    build=build,
    depth=depth,
    heads=encoder_heads("Albert", backbone, mlm=mlm, pooler="pooler", also_mlm=("AlbertForPreTraining",)),
    passthrough=(
        "embeddings.position_ids",
        "embeddings.token_type_ids",
        "sop_classifier.classifier.weight",
        "sop_classifier.classifier.bias",
    ),
    tiny={**TINY, "embedding_size": 16, "num_hidden_layers": 3},
    base={
        "vocab_size": 30000,
        "embedding_size": 128,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
    },
)
