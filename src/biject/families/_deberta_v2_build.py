"""From DeBERTa v2/v3's config values to the modules' config; pairs that crash in HF are refused."""

from __future__ import annotations

from biject.config.model import ConvConfig, EmbeddingConfig, HeadConfig, ModelConfig, RelativeConfig, Table
from biject.errors import ConfigError
from biject.families._deberta_v2_names import norms_positions, position_terms
from biject.families._encoder import (
    Values,
    check_sizes,
    encoder_fields,
    first_set,
    pooled,
    spans,
    tokens,
    vocab,
)


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
