"""DeBERTa v2 and v3 (He et al. 2020, 2021). Source: transformers 5.23,
models/deberta_v2/modeling_deberta_v2.py.

Disentangled attention over a table of relative positions, embeddings gated by the mask, an optional
convolution beside the first layer, and two masked-LM heads: which one a file has is decided by its
tensors.
"""

from __future__ import annotations

from biject.config.checks import activation, boolean, flag, integer, number, probability, strings, text
from biject.config.model import ConvConfig, EmbeddingConfig, HeadConfig, ModelConfig, RelativeConfig, Table
from biject.config.table import ConfigTable, Inert, Key
from biject.errors import ConfigError
from biject.families._deberta_v2_names import CARRY, backbone, mlm, norms_positions, position_terms, resolve
from biject.families._encoder import (
    Values,
    bert_rows,
    check_sizes,
    encoder_fields,
    first_set,
    pooled,
    spans,
    tokens,
    vocab,
)
from biject.families._family import Family, Head
from biject.families.bert import TINY
from biject.weights.rules import head, join, linear

_OWN = {
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "feed_forward_chunk_size",
}


def relative(v: Values) -> RelativeConfig:
    """The relative terms."""
    terms = position_terms(v["pos_att_type"])
    distance = v["max_relative_positions"]
    return RelativeConfig(
        content_to_position="c2p" in terms,
        position_to_content="p2c" in terms,
        enabled=v["relative_attention"],
        share_keys=v["share_att_key"],
        buckets=v["position_buckets"],
        max_distance=v["max_position_embeddings"] if distance < 1 else distance,
        norm=norms_positions(v),
        dropout=v["hidden_dropout"],
    )


def _check(v: Values, name: str) -> None:
    """Raise on pairs of values that crash in HF."""
    check_sizes(v)
    hidden, heads = v["hidden_size"], v["num_attention_heads"]
    if v["attention_head_size"] not in (None, hidden // heads):
        raise ConfigError(
            f"config.json: `attention_head_size` {v['attention_head_size']} × `num_attention_heads` {heads} "
            f"is not `hidden_size` {hidden}."
        )
    kernel = v["conv_kernel_size"]
    if kernel > 0 and (kernel % 2 == 0 or hidden % v["conv_groups"]):
        raise ConfigError(
            f"config.json: `conv_kernel_size` {kernel} must be odd and `conv_groups` {v['conv_groups']} must "
            f"divide `hidden_size` {hidden}."
        )
    if name == "seqcls" and v["pooler_hidden_size"] not in (None, hidden):
        raise ConfigError(
            f"config.json: `pooler_hidden_size` {v['pooler_hidden_size']} differs from `hidden_size` "
            f"{hidden}."
        )
    if name == "mlm" and not v["legacy"] and v["embedding_size"] not in (None, hidden):
        raise ConfigError(
            f"config.json: `embedding_size` {v['embedding_size']} differs from `hidden_size` {hidden}, which "
            "the new masked-LM head (`legacy` false) cannot compute."
        )


def build(v: Values, name: str) -> ModelConfig:
    """The modules' config."""
    _check(v, name)
    size = v["embedding_size"] or v["hidden_size"]
    fields = encoder_fields({**v, "feed_forward_chunk_size": 0})
    if name == "mlm" and not v["legacy"]:
        fields["tied_output"] = (
            True  # the new head reads the token table, whatever `tie_word_embeddings` says
        )
    conv = v["conv_kernel_size"]
    return ModelConfig(
        **fields,
        embedding=_embedding(v, size),
        relative=relative(v),
        conv=ConvConfig(kernel_size=conv, groups=v["conv_groups"], act=v["conv_act"]) if conv > 0 else None,
        head=_head(v, name, size),
    )


def _embedding(v: Values, size: int) -> EmbeddingConfig:
    order: list[Table] = []
    if v["position_biased_input"]:
        order.append("positions")
    if v["type_vocab_size"]:
        order.append("segments")
    return EmbeddingConfig(
        size=size,
        order=tuple(order),
        position_rule="arange" if v["position_biased_input"] else "none",
        max_position_embeddings=v["max_position_embeddings"],
        type_vocab_size=v["type_vocab_size"],
        projection="none" if size == v["hidden_size"] else "before-norm",
        projection_bias=False,
        zero_padding=True,
    )


def _head(v: Values, name: str, size: int) -> HeadConfig | None:
    match name:
        case "seqcls":
            return pooled(
                v,
                dropout=first_set(v["cls_dropout"], v["hidden_dropout"]),
                dropout_in=v["pooler_dropout"],
                dense_size=v["hidden_size"],
                act=v["pooler_hidden_act"],
                infer_problem="shape",
            )
        case "tokcls":
            return tokens(v, dropout=v["hidden_dropout"])
        case "qa":
            return spans(v)
        case "mlm" if v["legacy"]:
            return vocab(v, size=size, act=v["hidden_act"])
        case "mlm":
            return vocab(v, size=v["hidden_size"], act=v["hidden_act"], bias_added=True)
    return None


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
        [
            row
            for row in bert_rows(vocab_size=128100, type_vocab_size=0, pad_token_id=0, norm_eps=1e-7)
            if not (isinstance(row, Key) and row.field in _OWN)
        ],
        Key("hidden_size", "hidden_size", integer(1), 1536),
        Key("num_hidden_layers", "num_hidden_layers", integer(1), 24),
        Key("num_attention_heads", "num_attention_heads", integer(1), 24),
        Key("intermediate_size", "intermediate_size", integer(1), 6144),
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
    heads={
        "base": Head(hf_class="DebertaV2Model", slots=backbone),
        "seqcls": Head(
            hf_class="DebertaV2ForSequenceClassification",
            slots=lambda v: join(
                backbone(v), head(linear("head.dense", "pooler.dense"), linear("head.out", "classifier"))
            ),
        ),
        "tokcls": Head(
            hf_class="DebertaV2ForTokenClassification",
            slots=lambda v: join(backbone(v), head(linear("head.out", "classifier"))),
        ),
        "qa": Head(
            hf_class="DebertaV2ForQuestionAnswering",
            slots=lambda v: join(backbone(v), head(linear("head.out", "qa_outputs"))),
        ),
        "mlm": Head(hf_class="DebertaV2ForMaskedLM", slots=mlm),
    },
    carry=("embeddings.position_ids", "embeddings.position_embeddings.weight", *CARRY),
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
