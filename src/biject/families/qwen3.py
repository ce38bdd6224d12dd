"""Qwen3 (Yang et al. 2025): LLaMA with normalised queries and keys, windows in some layers. Source:
transformers 5.23, models/qwen3/modeling_qwen3.py.
"""

from __future__ import annotations

from biject.config.checks import boolean
from biject.config.model import ModelConfig
from biject.config.table import ConfigTable, Key
from biject.families import _decoder
from biject.families._decoder import TINY, WINDOW_ROWS, Values, buffers, heads, llama_rows, window_layers
from biject.families._family import Family
from biject.weights.rules import ParamSpecs


def backbone(v: Values) -> ParamSpecs:
    """The transformer."""
    bias = v["attention_bias"]
    return _decoder.backbone(v, qkv_bias=bias, out_bias=bias, mlp_bias=False, qk_norm=True)


def build(v: Values, name: str) -> ModelConfig:
    """The modules' config."""
    bias = v["attention_bias"]
    return _decoder.build(v, name, qkv_bias=bias, out_bias=bias, qk_norm=True, windows=window_layers(v))


FAMILY = Family(
    model_type="qwen3",
    prefix="model",
    config=ConfigTable(
        llama_rows(
            vocab_size=151936,
            intermediate_size=22016,
            max_position_embeddings=32768,
            num_key_value_heads=32,
            head_dim=128,
        ),
        WINDOW_ROWS,
        Key("attention_bias", "attention_bias", boolean, False),
    ),
    build=build,
    heads=heads("Qwen3", backbone, qa_prefix="transformer"),
    buffers=buffers,
    tiny={**TINY, "head_dim": 12},
    base={
        "vocab_size": 151936,
        "hidden_size": 1024,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": 3072,
        "max_position_embeddings": 40960,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": True,
        "pad_token_id": 151643,
    },
)
