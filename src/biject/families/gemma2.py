"""Gemma 2 (Gemma Team 2024, arXiv:2408.00118): capped scores and logits, a window in every other layer.
Source: transformers 5.23, models/gemma2/modeling_gemma2.py.
"""

from __future__ import annotations

from biject.config.checks import limit
from biject.config.model import ModelConfig
from biject.config.table import ConfigTable, Key
from biject.families import _gemma
from biject.families._decoder import TINY, Values, buffers, heads
from biject.families._family import Family
from biject.families._gemma import gemma_rows, layer_kinds
from biject.families._rope import ROPE_ROWS, rope
from biject.weights.rules import ParamSpecs


def backbone(v: Values) -> ParamSpecs:
    """The transformer."""
    return _gemma.backbone(v, qk_norm=False)


def build(v: Values, name: str) -> ModelConfig:
    """The modules' config; HF has no other backend than `eager` that caps scores."""
    kinds = layer_kinds(v, every=2)
    ropes = [rope(v, head_dim=v["head_dim"])] * len(kinds)
    return _gemma.build(v, name, kinds=kinds, ropes=ropes, qk_norm=False, written_out=True)


FAMILY = Family(
    model_type="gemma2",
    prefix="model",
    config=ConfigTable(
        gemma_rows(vocab_size=256000, max_position_embeddings=8192, final_softcap=30.0),
        Key("attn_logit_softcapping", "attn_softcap", limit, 50.0),
        ROPE_ROWS,
    ),
    build=build,
    heads={name: head for name, head in heads("Gemma2", backbone).items() if name != "qa"},
    buffers=buffers,
    attention="eager",
    tiny={
        **TINY,
        "head_dim": 12,
        "query_pre_attn_scalar": 10,
        "sliding_window": 7,
        "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 1.5,
        "tie_word_embeddings": True,
    },
)
