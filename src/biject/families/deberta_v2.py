"""DeBERTa v2 and v3 (He et al. 2020, 2021). Source: transformers 5.23, modeling_deberta_v2.py.

Disentangled attention over a table of relative positions, embeddings gated by the mask, an optional
convolution beside the first layer, and two masked-LM heads: which one a file has is decided by its
tensors.
"""

from __future__ import annotations

from biject.config.checks import activation, boolean, flag, integer, number, probability, strings, text
from biject.config.table import ConfigTable, Inert, Key
from biject.families._deberta_v2_build import build
from biject.families._deberta_v2_names import CARRY, backbone, mlm, resolve
from biject.families._encoder import bert_rows
from biject.families._encoder_heads import encoder_heads
from biject.families._family import Family
from biject.families.bert import TINY
from biject.weights.rules import join, linear

_V3 = {
    "type_vocab_size": 0,
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
    "position_biased_input": False,
    "max_relative_positions": -1,
}

FAMILY = Family(
    model_type="deberta-v2",
    prefix="deberta",
    config=ConfigTable(
        bert_rows(
            vocab_size=128100,
            type_vocab_size=0,
            pad_token_id=0,
            norm_eps=1e-7,
            hidden_size=1536,
            num_layers=24,
            num_heads=24,
            intermediate_size=6144,
        ),
        Key("attention_head_size", "attention_head_size", integer(1, none=True), None),
        Key("embedding_size", "embedding_size", integer(1, none=True), None),
        Key("relative_attention", "relative_attention", boolean, False),
        Key("max_relative_positions", "max_relative_positions", integer(), -1),
        Key("position_buckets", "position_buckets", integer(), -1),
        Key("pos_att_type", "pos_att_type", strings, None),
        Key("share_att_key", "share_att_key", boolean, False),
        Key("norm_rel_ebd", "norm_rel_ebd", text, "none"),
        Key("position_biased_input", "position_biased_input", boolean, True),
        Key("conv_kernel_size", "conv_kernel_size", integer(0), 0),
        Key("conv_groups", "conv_groups", integer(1), 1),
        Key("conv_act", "conv_act", activation, "tanh"),
        Key("pooler_hidden_size", "pooler_hidden_size", integer(1, none=True), None),
        Key("pooler_dropout", "pooler_dropout", number(0.0, 1.0), 0.0),
        Key("pooler_hidden_act", "pooler_hidden_act", activation, "gelu"),
        Key("cls_dropout", "cls_dropout", probability(none=True), None),
        Key("legacy", "legacy", flag, None),
        Inert(("chunk_size_feed_forward",)),
    ),
    build=build,
    heads=encoder_heads(
        "DebertaV2",
        backbone,
        mlm=mlm,
        seqcls=join(linear("head.dense", "pooler.dense"), linear("head.out", "classifier")),
    ),
    passthrough=("embeddings.position_ids", "embeddings.position_embeddings.weight", *CARRY),
    attention="eager",
    resolve=resolve,
    tiny={
        **TINY,
        **_V3,
        "position_buckets": 8,
    },
    base={
        "vocab_size": 128100,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "max_position_embeddings": 512,
        "position_buckets": 256,
        **_V3,
    },
)
