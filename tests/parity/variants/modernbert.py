"""ModernBERT's variants: windows, rotary bases, biases, pooling, dropouts, each by itself."""

from __future__ import annotations

from biject.families import HEADS
from parity.variants.decoders import by_type_yarn
from parity.variants.variant import Variant, variants_of

_ZERO = {"attention_dropout": 0.0, "embedding_dropout": 0.0, "mlp_dropout": 0.0, "classifier_dropout": 0.0}
_MIXED = ["sliding_attention", "full_attention", "sliding_attention", "sliding_attention"]
_BASES = {
    "full_attention": {"rope_type": "default", "rope_theta": 500.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 77.0},
}


def modernbert_variants() -> list[Variant]:
    """All of them."""
    return variants_of(
        "modernbert",
        ("no-dropout", HEADS, _ZERO),
        *((f"only-{name}", ("base", "seqcls"), {**_ZERO, name: 0.4}) for name in _ZERO),
        ("classifier-dropout", ("seqcls", "tokcls", "qa"), {"classifier_dropout": 0.4}),
        ("mean-pooling", ("seqcls",), {"classifier_pooling": "mean"}),
        ("mean-regression", ("seqcls",), {"classifier_pooling": "mean", "num_labels": 1}),
        ("attention-bias", HEADS, {"attention_bias": True}),
        ("mlp-bias", ("base",), {"mlp_bias": True}),
        ("norm-bias", HEADS, {"norm_bias": True}),
        ("classifier-bias", ("seqcls", "tokcls", "qa", "mlm"), {"classifier_bias": True}),
        ("no-decoder-bias", ("mlm",), {"decoder_bias": False}),
        ("untied", ("mlm",), {"tie_word_embeddings": False}),
        ("act-relu", ("mlm", "base"), {"hidden_activation": "relu"}),
        ("classifier-act-silu", ("mlm", "seqcls"), {"classifier_activation": "silu"}),
        ("window-2", HEADS, {"local_attention": 2}),
        ("window-0", ("base",), {"local_attention": 0}),
        ("window-odd", ("base",), {"local_attention": 7}),
        ("window-wide", ("base",), {"local_attention": 500}),
        ("all-global", ("base",), {"global_attn_every_n_layers": 1}),
        ("every-second", ("base",), {"global_attn_every_n_layers": 2}),
        ("layer-types", ("base", "mlm"), {"layer_types": _MIXED}),
        ("bases", ("base",), {"rope_parameters": _BASES}),
        ("old-bases", ("base",), {"global_rope_theta": 900.0, "local_rope_theta": 50.0}),
        ("eps", ("base",), {"norm_eps": 1e-2}),
        ("labels-1", ("seqcls",), {"num_labels": 1}),
        ("labels-5", ("seqcls", "tokcls"), {"num_labels": 5}),
        ("multi-label", ("seqcls",), {"num_labels": 3, "problem_type": "multi_label_classification"}),
        *((f"by-type-{name}", ("base",), change) for name, change in by_type_yarn(500.0).items()),
        ("mmbert", ("base", "mlm"), {"position_embedding_type": "sans_pos"}),
        ("pad-null", ("base",), {"pad_token_id": None}),
        ("one-layer", ("base", "seqcls"), {"num_hidden_layers": 1}),
    )
