"""Variants of models of pictures: sizes, channels, biases, poolers, SwiGLU, registers, losses."""

from __future__ import annotations

from parity.variants.variant import Variant, variants_of

_NONE = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
_LOSSES = (
    ("labels-1", ("imgcls",), {"num_labels": 1}),
    ("labels-5", ("imgcls",), {"num_labels": 5}),
    ("regression-3", ("imgcls",), {"num_labels": 3, "problem_type": "regression"}),
    ("single-label", ("imgcls",), {"num_labels": 3, "problem_type": "single_label_classification"}),
    ("multi-label", ("imgcls",), {"num_labels": 3, "problem_type": "multi_label_classification"}),
)
_SHAPES = (
    ("no-qkv-bias", ("base", "imgcls"), {"qkv_bias": False}),
    ("grey", ("base",), {"num_channels": 1}),
    ("odd-patch", ("base", "imgcls"), {"image_size": 21, "patch_size": 5}),
    ("act-relu", ("base",), {"hidden_act": "relu"}),
    ("eps", ("base",), {"layer_norm_eps": 0.1}),
    ("odd-widths", ("base",), {"hidden_size": 36, "num_attention_heads": 3}),
)


def vision_variants() -> list[Variant]:
    """All of them."""
    found: list[Variant] = []
    for name in ("vit", "deit", "dinov2", "dinov2_with_registers"):
        found += variants_of(name, *_SHAPES, *_LOSSES, ("no-dropout", ("base", "imgcls"), _NONE))
        found += variants_of(name, *((f"only-{key}", ("base",), {**_NONE, key: 0.4}) for key in _NONE))
    for name in ("vit", "deit"):
        found += variants_of(
            name,
            ("wide", ("base", "imgcls"), {"image_size": [20, 28], "patch_size": [4, 4]}),
            ("pooler-size", ("base",), {"pooler_output_size": 24}),
            ("pooler-act", ("base",), {"pooler_act": "relu"}),
            ("patch-not-square", ("base",), {"image_size": [20, 24], "patch_size": [4, 6]}),
        )
    for name in ("dinov2", "dinov2_with_registers"):
        found += variants_of(
            name,
            ("swiglu", ("base", "imgcls"), {"use_swiglu_ffn": True}),
            ("drop-path", ("base", "imgcls"), {**_NONE, "drop_path_rate": 0.5}),
            ("mlp-ratio", ("base",), {"mlp_ratio": 3}),
        )
    found += variants_of("dinov2", ("no-mask-token", ("base",), {"use_mask_token": False}))
    return found + variants_of(
        "dinov2_with_registers", ("one-register", ("base",), {"num_register_tokens": 1})
    )
