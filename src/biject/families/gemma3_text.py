"""Gemma 3's language models (Gemma Team 2025, arXiv:2503.19786): normalised queries and keys, a window and
rotary positions of their own in five layers of six. Source: transformers 5.23,
models/gemma3/modeling_gemma3.py.
"""

from __future__ import annotations

from dataclasses import replace

from biject.config.checks import anything, integer, number
from biject.config.model import ModelConfig
from biject.config.rope import RopeConfig
from biject.config.table import ConfigTable, Inert, Key
from biject.families import _gemma
from biject.families._decoder import TINY, Values, buffers, heads
from biject.families._family import Family
from biject.families._gemma import gemma_rows, layer_kinds
from biject.families._layer_types import rope_by_type
from biject.weights.rules import ParamSpecs


def backbone(v: Values) -> ParamSpecs:
    """The transformer."""
    return _gemma.backbone(v, qk_norm=True)


def build(v: Values, name: str) -> ModelConfig:
    """The modules' config; `rope_scaling` is for layers over all tokens."""
    kinds = layer_kinds(v, every=v["sliding_window_pattern"])
    ropes = [_rope_of(v, kind) for kind in kinds]
    return _gemma.build(v, name, kinds=kinds, ropes=ropes, qk_norm=True, written_out=False)


def _rope_of(v: Values, kind: str) -> RopeConfig:
    own = v if kind == "full_attention" else {**v, "rope_scaling": None}
    return rope_by_type(own, kind, head_dim=v["head_dim"])


_HEADS = heads("Gemma3", backbone)

FAMILY = Family(
    model_type="gemma3_text",
    prefix="model",
    config=ConfigTable(
        gemma_rows(vocab_size=262208, max_position_embeddings=131072, final_softcap=None),
        Key("sliding_window_pattern", "sliding_window_pattern", integer(1), 6),
        Key("rope_parameters", "rope_parameters", anything, None),
        Key("rope_scaling", "rope_scaling", anything, None),
        Key("rope_theta", "global_rope_theta", number(0.0), 1000000.0),
        Key("rope_local_base_freq", "local_rope_theta", number(0.0), 10000.0),
        Key("partial_rotary_factor", "partial_rotary_factor", number(0.0, 1.0, none=True), None),
        Inert(
            ("original_max_position_embeddings", "_sliding_window_pattern", "attn_logit_softcapping")
        ),  # the latter: HF's layers never read it
    ),
    build=build,
    heads={
        "base": replace(_HEADS["base"], hf_class="Gemma3TextModel"),
        "seqcls": replace(_HEADS["seqcls"], hf_class="Gemma3TextForSequenceClassification"),
        "causal": _HEADS["causal"],
    },
    buffers=buffers,
    tiny={
        **TINY,
        "num_hidden_layers": 3,
        "head_dim": 12,
        "query_pre_attn_scalar": 10,
        "sliding_window": 7,
        "sliding_window_pattern": 2,
        "tie_word_embeddings": True,
    },
    base={
        "vocab_size": 262144,
        "hidden_size": 1152,
        "num_hidden_layers": 26,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "intermediate_size": 6912,
        "max_position_embeddings": 32768,
        "query_pre_attn_scalar": 256,
        "sliding_window": 512,
    },
)
