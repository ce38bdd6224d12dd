"""From DeBERTa v2/v3's config values to the modules' config; pairs that crash in HF are refused."""

from __future__ import annotations

from dataclasses import replace

from biject.config.heads import DenseConfig
from biject.config.layers import ConvConfig, NormConfig, RelativeConfig
from biject.config.model import EmbeddingConfig, ModelConfig, Table
from biject.errors import ConfigError
from biject.families._deberta_v2_names import norms_positions, position_terms
from biject.families._encoder import Values, check_sizes, embedding, encoder, layer
from biject.families._encoder_heads import encoder_head, first_set, mlm_head


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
        norm=NormConfig(kind="layer" if norms_positions(v) else "none", eps=v["norm_eps"]),
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
    v = {**v, "feed_forward_chunk_size": 0}
    size, dropout, terms = v["embedding_size"] or v["hidden_size"], v["hidden_dropout"], relative(v)
    one = layer(v, attn_dropout=dropout, mlp_dropout=dropout, relative=terms)
    new_mlm = name == "mlm" and not v["legacy"]
    return encoder(
        v,
        layers=[replace(one, conv=_conv(v)), *[one] * (v["num_hidden_layers"] - 1)],
        embedding=_embedding(v, size),
        relative_table=terms if terms.enabled else None,
        # The new masked-LM head reads the token table, whatever `tie_word_embeddings` says.
        tied_output=v["tie_word_embeddings"] or new_mlm,
        head=encoder_head(
            v,
            name,
            dropout=first_set(v["cls_dropout"], dropout) if name == "seqcls" else dropout,
            mlm=mlm_head(
                v, size=v["hidden_size"] if new_mlm else size, act=v["hidden_act"], bias_added=new_mlm
            ),
            dropout_in=v["pooler_dropout"],
            dense=DenseConfig(size=v["hidden_size"], act=v["pooler_hidden_act"]),
            infer_problem="shape",
        ),
    )


def _conv(v: Values) -> ConvConfig | None:
    if v["conv_kernel_size"] <= 0:
        return None
    return ConvConfig(
        kernel_size=v["conv_kernel_size"],
        groups=v["conv_groups"],
        act=v["conv_act"],
        dropout=v["hidden_dropout"],
        norm=NormConfig(kind="layer", eps=v["norm_eps"]),
    )


def _embedding(v: Values, size: int) -> EmbeddingConfig:
    order: list[Table] = []
    if v["position_biased_input"]:
        order.append("positions")
    if v["type_vocab_size"]:
        order.append("segments")
    return embedding(
        v,
        order=tuple(order),
        size=size,
        position_rule="arange" if v["position_biased_input"] else "none",
        projection="none" if size == v["hidden_size"] else "before-norm",
        projection_bias=False,
        zero_padding=True,
    )
