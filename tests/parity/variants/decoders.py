"""Configuration variants of the decoders: heads, biases, rotary positions, windows, GPT-2's own switches."""

from __future__ import annotations

from typing import Any

from biject.families import CAUSAL_HEADS
from parity.variants.variant import Variant, variants_of

_LLAMAS = ("llama", "mistral", "qwen2", "qwen3")
_LM = ("causal",)
_BOTH = ("base", "causal")
_HALF = 4  # frequencies of a tiny LLaMA's heads


def _rope(kind: str, **settings: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **settings}}


_YARN = {"factor": 4.0, "original_max_position_embeddings": 16}
_STEEP = {"beta_fast": 0.5, "beta_slow": 0.05}
"""A range of frequencies whose ends, cut to whole ones, lie elsewhere, also in small heads."""
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
_FACTORS = {
    "short_factor": [1.0 + 0.1 * i for i in range(_HALF)],
    "long_factor": [2.0 + 0.7 * i for i in range(_HALF)],
}


def _ropes() -> list[Variant]:
    """Every type of rotary positions; texts of the built-in calls are longer than the original lengths."""
    return variants_of(
        "llama",
        ("rope-theta", _LM, {"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}}),
        ("rope-old-theta", _LM, {"rope_theta": 500000.0}),
        ("rope-old-scaling", _LM, {"rope_theta": 5000.0, "rope_scaling": {"type": "linear", "factor": 2.0}}),
        ("rope-linear", _LM, _rope("linear", factor=4.0)),
        ("rope-dynamic", _LM, _rope("dynamic", factor=2.0)),
        ("rope-yarn", _LM, _rope("yarn", **_YARN)),
        ("rope-yarn-plain", _LM, _rope("yarn", **_YARN, truncate=False, beta_fast=16, beta_slow=2)),
        ("rope-yarn-mscale", _LM, _rope("yarn", **_YARN, mscale=0.7, mscale_all_dim=1.1)),
        ("rope-yarn-factor", _LM, _rope("yarn", **_YARN, attention_factor=0.9)),
        ("rope-longrope", _LM, _rope("longrope", **_FACTORS, original_max_position_embeddings=16)),
        ("rope-longrope-short", _LM, _rope("longrope", **_FACTORS, original_max_position_embeddings=64)),
        ("rope-longrope-factor", _LM, _rope("longrope", **_FACTORS, factor=3.0, attention_factor=1.2)),
        ("rope-llama3", _LM, _rope("llama3", factor=8.0, **_LLAMA3)),
        ("rope-proportional", _LM, _rope("proportional", partial_rotary_factor=0.5)),
        ("rope-proportional-factor", _LM, _rope("proportional", partial_rotary_factor=0.75, factor=2.0)),
        ("rope-default-partial", _LM, _rope("default", partial_rotary_factor=0.5)),
    )


def _common() -> list[Variant]:
    """What the LLaMA-like families share."""
    variants = []
    for model_type in _LLAMAS:
        variants += variants_of(
            model_type,
            ("groups-4", _BOTH, {"num_key_value_heads": 4}),
            ("groups-1", _BOTH, {"num_key_value_heads": 1}),
            ("head-dim-16", _BOTH, {"head_dim": 16}),
            ("heads-8-of-2", _LM, {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 2}),
            ("tied", _LM, {"tie_word_embeddings": True}),
            ("untied", _LM, {"tie_word_embeddings": False}),
            ("gelu", _LM, {"hidden_act": "gelu"}),
            ("relu2", _LM, {"hidden_act": "relu2"}),
            ("eps", ("base",), {"rms_norm_eps": 1e-3}),
            ("pad-null", _BOTH, {"pad_token_id": None}),
            ("pad-5", ("seqcls",), {"pad_token_id": 5}),
            ("labels-1", ("seqcls", "tokcls"), {"num_labels": 1}),
            ("labels-5", ("seqcls", "tokcls", "qa"), {"num_labels": 5}),
            ("classifier-dropout", ("tokcls",), {"classifier_dropout": 0.4}),
            ("hidden-dropout", ("tokcls",), {"hidden_dropout": 0.3}),
            ("no-dropout", _LM, {"attention_dropout": 0.0}),
            ("yarn", _LM, _rope("yarn", **_YARN)),
            ("one-layer", CAUSAL_HEADS, {"num_hidden_layers": 1}),
            ("wide-heads", _LM, {"hidden_size": 64, "num_attention_heads": 2, "head_dim": 288}),
        )
    return variants


def _llama() -> list[Variant]:
    return variants_of(
        "llama",
        ("attention-bias", CAUSAL_HEADS, {"attention_bias": True}),
        ("mlp-bias", _BOTH, {"mlp_bias": True}),
        (
            "all-biases-no-groups",
            _LM,
            {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": None},
        ),
        ("no-token-bias", ("tokcls",), {"token_classification_bias": False}),
        ("pad-minus-1", ("base", "seqcls"), {"pad_token_id": -1}),
        ("uneven-inner", _LM, {"intermediate_size": 53}),
    )


def _windows() -> list[Variant]:
    types = ["sliding_attention", "full_attention"]
    qwen = {"use_sliding_window": True, "sliding_window": 5}
    variants = variants_of(
        "mistral",
        ("window-13", _BOTH, {"sliding_window": 13}),
        ("window-14", _LM, {"sliding_window": 14}),
        ("window-1", _LM, {"sliding_window": 1}),
        ("window-null", _BOTH, {"sliding_window": None}),
    )
    for model_type in ("qwen2", "qwen3"):
        variants += variants_of(
            model_type,
            ("windows-from-1", CAUSAL_HEADS, {**qwen, "max_window_layers": 1}),
            ("windows-all", _LM, {**qwen, "max_window_layers": 0}),
            ("windows-by-type", _BOTH, {**qwen, "layer_types": types}),
            ("windows-off", _LM, {"sliding_window": 5, "max_window_layers": 0}),
        )
    return variants + variants_of("qwen3", ("attention-bias", _BOTH, {"attention_bias": True}))


def _gpt2() -> list[Variant]:
    by_layer, upcast = {"scale_attn_by_inverse_layer_idx": True}, {"reorder_and_upcast_attn": True}
    return variants_of(
        "gpt2",
        ("inner-48", _BOTH, {"n_inner": 48}),
        ("inner-53", _LM, {"n_inner": 53}),
        ("scale-by-layer", CAUSAL_HEADS, {**by_layer, "n_layer": 3}),
        ("no-scale", _LM, {"scale_attn_weights": False}),
        ("no-scale-by-layer", _LM, {"scale_attn_weights": False, **by_layer}),
        ("upcast", CAUSAL_HEADS, upcast),
        ("upcast-by-layer", _LM, {**upcast, **by_layer}),
        ("untied", _LM, {"tie_word_embeddings": False}),
        ("relu", _LM, {"activation_function": "relu"}),
        ("gelu", _LM, {"activation_function": "gelu"}),
        ("pad-null", _BOTH, {"pad_token_id": None}),
        ("pad-5", (*_BOTH, "seqcls"), {"pad_token_id": 5}),
        ("labels-5", ("seqcls", "tokcls", "qa"), {"num_labels": 5}),
        ("classifier-dropout", ("tokcls",), {"classifier_dropout": 0.4}),
        ("dropouts", _LM, {"resid_pdrop": 0.3, "embd_pdrop": 0.2, "attn_pdrop": 0.0}),
        ("eps", ("base",), {"layer_norm_epsilon": 1e-3}),
        ("one-head", _LM, {"n_embd": 37, "n_head": 1}),
    )


def _smollm3() -> list[Variant]:
    window = {"use_sliding_window": True, "sliding_window": 5}
    types = ["sliding_attention", "full_attention", "sliding_attention"]
    return variants_of(
        "smollm3",
        ("positions-listed", CAUSAL_HEADS, {"no_rope_layers": [0, 1, 0]}),
        ("positions-nowhere", _LM, {"no_rope_layers": [0, 0, 0]}),
        ("positions-everywhere", _BOTH, {"no_rope_layer_interval": 9}),
        ("windows-by-type", _BOTH, {**window, "layer_types": types}),
        ("windows-off", _LM, {"use_sliding_window": False}),
        ("untied", _LM, {"tie_word_embeddings": False}),
        ("all-biases", _BOTH, {"attention_bias": True, "mlp_bias": True}),
        ("yarn", _LM, _rope("yarn", **_YARN)),
        ("pad-5", ("seqcls",), {"pad_token_id": 5}),
    )


def _phi3() -> list[Variant]:
    few = {"short_factor": [1.1, 1.3], "long_factor": [2.0, 3.5]}
    lengths = {"original_max_position_embeddings": 16}
    heads = ("base", "causal", "seqcls", "tokcls")
    return variants_of(
        "phi3",
        ("part", heads, {"partial_rotary_factor": 0.5}),
        ("part-nested", _LM, _rope("default", partial_rotary_factor=0.5)),
        ("longrope", _BOTH, {**_rope("longrope", **_FACTORS), **lengths}),
        ("longrope-short", _LM, _rope("longrope", **_FACTORS)),
        ("longrope-part", _BOTH, {**_rope("longrope", **few, partial_rotary_factor=0.5), **lengths}),
        ("su", _LM, {"rope_scaling": {"type": "su", **_FACTORS, **lengths}, **lengths}),
        ("window-null", heads, {"sliding_window": None}),
        ("no-groups", _LM, {"num_key_value_heads": None}),
        ("tied", _LM, {"tie_word_embeddings": True}),
        ("dropouts", _LM, {"resid_pdrop": 0.3, "embd_pdrop": 0.2, "attention_dropout": 0.0}),
        ("eps", ("base",), {"rms_norm_eps": 1e-3}),
        ("pad-5", ("seqcls",), {"pad_token_id": 5}),
    )


def _gemma2() -> list[Variant]:
    kinds = ["full_attention", "sliding_attention"]
    uncapped = {"attn_logit_softcapping": None, "final_logit_softcapping": None}
    heads = ("base", "causal", "seqcls", "tokcls")
    return variants_of(
        "gemma2",
        ("uncapped", heads, uncapped),
        ("capped-scores", _LM, {"final_logit_softcapping": None}),
        ("published-caps", _LM, {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}),
        ("windows-by-type", _BOTH, {"layer_types": kinds}),
        ("windows-nowhere", _LM, {"layer_types": ["full_attention"] * 2}),
        ("three-layers", _LM, {"num_hidden_layers": 3, "sliding_window": 13}),
        ("window-1", _LM, {"sliding_window": 1}),
        ("scalar", _BOTH, {"query_pre_attn_scalar": 144}),
        ("untied", _LM, {"tie_word_embeddings": False}),
        ("attention-bias", _BOTH, {"attention_bias": True}),
        ("old-theta", _LM, {"rope_theta": 500.0}),
        ("rope-linear", _LM, _rope("linear", factor=4.0)),
        ("silu", _LM, {"hidden_activation": "silu", "hidden_act": "gelu"}),
        ("no-groups", _LM, {"num_key_value_heads": 4}),
        ("width-36", _LM, {"hidden_size": 36}),
        ("eps", ("base",), {"rms_norm_eps": 1e-3}),
        ("pad-5", ("seqcls",), {"pad_token_id": 5}),
    )


def by_type_yarn(theta: float) -> dict[str, dict[str, Any]]:
    """Yarn over all tokens, with keys in places where HF does not read them, and without them."""
    plain = {"rope_type": "yarn", "rope_theta": theta, "factor": 4.0}
    yarn = {**plain, "original_max_position_embeddings": 16}
    return {
        "yarn": {"rope_parameters": _by_type(yarn), "original_max_position_embeddings": 64},
        "yarn-no-length": {"rope_parameters": _by_type(plain), "original_max_position_embeddings": 16},
        "yarn-truncate-inside": {"rope_parameters": _by_type({**yarn, **_STEEP, "truncate": False})},
    }


def _by_type(full: dict[str, Any]) -> dict[str, Any]:
    return {"full_attention": full, "sliding_attention": {"rope_type": "default"}}


def _gemma3() -> list[Variant]:
    """Positions of each kind of attention, in both of HF's spellings."""
    full, near = {"rope_type": "default", "rope_theta": 5e5}, {"rope_type": "default", "rope_theta": 700.0}
    both = {"full_attention": full, "sliding_attention": near}
    linear = {"rope_type": "linear", "factor": 8.0}
    steep = {"rope_type": "yarn", **_YARN, **_STEEP}
    heads = ("base", "causal", "seqcls")
    return variants_of(
        "gemma3_text",
        ("old-thetas", heads, {"rope_theta": 3000.0, "rope_local_base_freq": 70.0}),
        ("old-scaling", _BOTH, {"rope_theta": 3000.0, "rope_scaling": linear}),
        ("thetas-by-type", _BOTH, {"rope_parameters": both}),
        ("scaling-by-type", _LM, {"rope_parameters": {**both, "full_attention": {**full, **linear}}}),
        *((f"by-type-{name}", _LM, change) for name, change in by_type_yarn(5e5).items()),
        ("by-type-yarn-truncate-outside", _LM, {"rope_parameters": {**_by_type(steep), "truncate": False}}),
        ("pattern-3", _BOTH, {"sliding_window_pattern": 3}),
        ("pattern-6", _LM, {"sliding_window_pattern": 6, "num_hidden_layers": 7}),
        ("windows-by-type", _LM, {"layer_types": ["full_attention", "sliding_attention", "full_attention"]}),
        ("capped", heads, {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 1.5}),
        ("capped-logits", _LM, {"final_logit_softcapping": 30.0}),
        ("window-1", _LM, {"sliding_window": 1}),
        ("window-13", _LM, {"sliding_window": 13}),
        ("scalar", _BOTH, {"query_pre_attn_scalar": 168}),
        ("untied", _LM, {"tie_word_embeddings": False}),
        ("attention-bias", _BOTH, {"attention_bias": True}),
        ("one-group", _LM, {"num_key_value_heads": 1}),
        ("no-groups", _LM, {"num_key_value_heads": 4}),
        ("eps", ("base",), {"rms_norm_eps": 1e-3}),
        ("pad-5", ("seqcls",), {"pad_token_id": 5}),
    )


def _olmo2() -> list[Variant]:
    heads = ("base", "causal", "seqcls")
    return variants_of(
        "olmo2",
        ("attention-bias", heads, {"attention_bias": True}),
        ("no-groups", _BOTH, {"num_key_value_heads": None}),
        ("one-group", _LM, {"num_key_value_heads": 1}),
        ("head-dim-16", _BOTH, {"head_dim": 16}),
        ("tied", _LM, {"tie_word_embeddings": True}),
        ("old-theta", _LM, {"rope_theta": 500000.0}),
        ("yarn", _LM, _rope("yarn", **_YARN)),
        ("dynamic", _LM, _rope("dynamic", factor=2.0)),
        ("gelu", _LM, {"hidden_act": "gelu"}),
        ("eps", ("base",), {"rms_norm_eps": 1e-3}),
        ("pad-5", ("seqcls",), {"pad_token_id": 5}),
    )


def decoder_variants() -> list[Variant]:
    """All of them."""
    llamas = [*_ropes(), *_common(), *_llama(), *_windows(), *_smollm3(), *_phi3()]
    return [*llamas, *_gemma2(), *_gemma3(), *_olmo2(), *_gpt2()]
