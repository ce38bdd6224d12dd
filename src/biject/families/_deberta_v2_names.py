"""DeBERTa v2/v3's names on disk, and which of its two masked-LM heads a file holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from biject.errors import ConfigError
from biject.families._encoder import Values
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
    tensor,
)

NEW_HEAD = "lm_predictions.lm_head.dense.weight"
LEGACY_HEAD = "cls.predictions.transform.dense.weight"

CARRY = tuple(
    f"mask_predictions.{module}.{part}"
    for module in ("dense", "LayerNorm", "classifier")
    for part in ("weight", "bias")
)
"""The replaced-token-detection head of v3's discriminators, which HF ignores."""


def position_terms(value: Any) -> tuple[str, ...]:
    """`pos_att_type` as HF reads it: a string is split and lowered, a list is taken as it is."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.lower().split("|"))
    return tuple(value or ())


def norms_positions(v: Values) -> bool:
    """Whether `norm_rel_ebd` asks for a norm over the table of relative positions."""
    return "layer_norm" in [part.strip() for part in v["norm_rel_ebd"].lower().split("|")]


def _layer(v: Values, terms: tuple[str, ...]) -> ParamSpecs:
    own_position_projections = v["relative_attention"] and not v["share_att_key"]
    return join(
        linear("attn.q_proj", "attention.self.query_proj"),
        linear("attn.k_proj", "attention.self.key_proj"),
        linear("attn.v_proj", "attention.self.value_proj"),
        linear("attn.relative.k_proj", "attention.self.pos_key_proj")
        if own_position_projections and "c2p" in terms
        else (),
        linear("attn.relative.q_proj", "attention.self.pos_query_proj")
        if own_position_projections and "p2c" in terms
        else (),
        linear("attn.o_proj", "attention.output.dense"),
        norm("attn_norm", "attention.output.LayerNorm"),
        linear("mlp.up_proj", "intermediate.dense"),
        linear("mlp.down_proj", "output.dense"),
        norm("mlp_norm", "output.LayerNorm"),
    )


def backbone(v: Values) -> ParamSpecs:
    """The transformer (which has no pooler of its own)."""
    return join(
        embed("embed.tokens", "embeddings.word_embeddings"),
        embed("embed.positions", "embeddings.position_embeddings") if v["position_biased_input"] else (),
        embed("embed.segments", "embeddings.token_type_embeddings") if v["type_vocab_size"] else (),
        linear("embed_proj", "embeddings.embed_proj", bias=False)
        if v["embedding_size"] not in (None, v["hidden_size"])
        else (),
        norm("embed_norm", "embeddings.LayerNorm"),
        embed("relative.table", "encoder.rel_embeddings") if v["relative_attention"] else (),
        norm("relative.norm", "encoder.LayerNorm") if v["relative_attention"] and norms_positions(v) else (),
        join(
            linear("layers.0.conv.conv", "encoder.conv.conv"),
            norm("layers.0.conv.norm", "encoder.conv.LayerNorm"),
        )
        if v["conv_kernel_size"] > 0
        else (),
        layers(
            [f"encoder.layer.{i}" for i in range(v["num_hidden_layers"])],
            _layer(v, position_terms(v["pos_att_type"])),
        ),
    )


def mlm(v: Values) -> ParamSpecs:
    """The masked-LM head that `legacy` selects."""
    if v["legacy"] is False:
        return head(
            linear("head.dense", "lm_predictions.lm_head.dense"),
            norm("head.norm", "lm_predictions.lm_head.LayerNorm"),
            tensor("head.decoder.bias", "lm_predictions.lm_head.bias"),
        )
    return join(
        head(
            linear("head.dense", "cls.predictions.transform.dense"),
            norm("head.norm", "cls.predictions.transform.LayerNorm"),
        ),
        output_matrix("head.decoder.weight", "cls.predictions.decoder.weight", tied_to="embed.tokens.weight"),
        output_bias("head.decoder.bias", "cls.predictions.decoder.bias", alias="cls.predictions.bias"),
    )


def resolve(v: Values, names: frozenset[str], head_name: str, requested: bool | None) -> Mapping[str, Any]:
    """Resolve `legacy`: as requested; else by the tensors; the config may only confirm them.

    Raises:
        ConfigError: masked LM is requested, and the config's `legacy` names a head that the file
            does not have while
            the other one is there.
    """
    if requested is not None:
        return {**v, "legacy": requested}
    has_new, has_legacy = NEW_HEAD in names, LEGACY_HEAD in names
    if has_new == has_legacy:
        return {**v, "legacy": v["legacy"] is not False}
    if head_name == "mlm" and v["legacy"] is not None and v["legacy"] == has_new:
        present, other = ("new", "legacy") if has_new else ("legacy", "new")
        raise ConfigError(
            f"config.json: `legacy` is {str(v['legacy']).lower()} ({other} masked-LM head), but the file "
            f"holds the {present} head; pass legacy={has_legacy} to use it."
        )
    return {**v, "legacy": has_legacy}
