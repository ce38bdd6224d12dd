"""DeBERTa-v2's own axes. Its tiny config is v3's: shared keys, buckets, normed relative embeddings."""

from __future__ import annotations

from typing import Any

from biject.families import HEADS
from parity.variants.variant import Variant, variants_of

_OWN: dict[str, Any] = {"share_att_key": False}
_POSITION_TYPES: dict[str, Any] = {
    "c2p": ["c2p"],
    "p2c": ["p2c"],
    "both": ["c2p", "p2c"],
    "text": "c2p|p2c",
    "text-spaced": "P2C | C2P",
    "text-one": "c2p",
    "empty": [],
    "unknown-type": ["c2p", "p2p"],
    "null": None,
}
_BASE: dict[str, dict[str, Any]] = {
    "no-buckets": {"position_buckets": -1},
    "no-buckets-own": _OWN | {"position_buckets": -1},
    "buckets-16": {"position_buckets": 16},
    "buckets-odd": {"position_buckets": 7},
    "max-relative-24": {"max_relative_positions": 24},
    "max-relative-24-no-buckets": _OWN | {"max_relative_positions": 24, "position_buckets": -1},
    "relative-not-normed": {"norm_rel_ebd": "none"},
    "relative-normed-spelled": {"norm_rel_ebd": "Layer_Norm | other"},
    "absolute-positions": {"position_biased_input": True},
    "absolute-only": {"relative_attention": False, "position_biased_input": True},
    "absolute-only-normed": {"relative_attention": False, "norm_rel_ebd": "none", "pos_att_type": None},
    "no-positions": {"relative_attention": False, "position_biased_input": False},
    "segments-2": {"type_vocab_size": 2},
    "segments-4": {"type_vocab_size": 4, "position_biased_input": True},
    "embedding-16": {"embedding_size": 16},
    "embedding-16-positions": {"embedding_size": 16, "position_biased_input": True, "type_vocab_size": 3},
    "conv-3": {"conv_kernel_size": 3},
    "conv-3-gelu": {"conv_kernel_size": 3, "conv_act": "gelu"},
    "conv-5-tanh": {"conv_kernel_size": 5, "conv_act": "tanh"},
    "conv-3-groups": {"conv_kernel_size": 3, "conv_act": "gelu", "conv_groups": 4},
    "head-size-given": {"attention_head_size": 8},
    "xlarge-v2": _OWN | {"conv_kernel_size": 3, "conv_act": "gelu", "position_biased_input": False},
    "defaults": _OWN
    | {
        "relative_attention": False,
        "pos_att_type": None,
        "position_biased_input": True,
        "norm_rel_ebd": "none",
    },
    "eps": {"layer_norm_eps": 1e-3},
}


def deberta_variants() -> list[Variant]:
    """Every combination and spelling of position types with shared and own keys, then the other axes."""
    rows: list[tuple[str, tuple[str, ...], dict[str, Any]]] = []
    for name, value in _POSITION_TYPES.items():
        rows.append((f"shared-{name}", ("base",), {"pos_att_type": value, "share_att_key": True}))
        rows.append((f"own-{name}", ("base",), {"pos_att_type": value, "share_att_key": False}))
    rows += [(name, ("base",), overrides) for name, overrides in _BASE.items()]
    return variants_of(
        "deberta-v2",
        *rows,
        ("mlm-new", ("mlm",), {"legacy": False}),
        ("mlm-new-untied", ("mlm",), {"legacy": False, "tie_word_embeddings": False}),
        ("mlm-embedding-16", ("mlm",), {"embedding_size": 16}),
        ("conv-heads", ("seqcls", "mlm"), {"conv_kernel_size": 3, "conv_act": "gelu"}),
        ("pooler-dropout", ("seqcls",), {"pooler_dropout": 0.3}),
        ("pooler-act-tanh", ("seqcls",), {"pooler_hidden_act": "tanh"}),
        ("pooler-act-relu", ("seqcls",), {"pooler_hidden_act": "relu"}),
        ("own-heads", HEADS, _OWN),
    )
