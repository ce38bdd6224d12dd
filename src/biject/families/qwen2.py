"""Qwen2 and 2.5 (Yang et al. 2024): LLaMA with biases on queries, keys and values, windows in some layers.
Source: transformers 5.23, models/qwen2/modeling_qwen2.py.
"""

from __future__ import annotations

from biject.config.model import ModelConfig
from biject.config.table import ConfigTable
from biject.families import _decoder
from biject.families._decoder import TINY, WINDOW_ROWS, Values, buffers, heads, llama_rows, window_layers
from biject.families._family import Family
from biject.weights.rules import ParamSpecs


def backbone(v: Values) -> ParamSpecs:
    """The transformer."""
    return _decoder.backbone(v, qkv_bias=True, out_bias=False, mlp_bias=False, qk_norm=False)


def build(v: Values, name: str) -> ModelConfig:
    """The modules' config."""
    return _decoder.build(v, name, qkv_bias=True, windows=window_layers(v))


FAMILY = Family(
    model_type="qwen2",
    prefix="model",
    config=ConfigTable(
        llama_rows(
            vocab_size=151936,
            intermediate_size=22016,
            max_position_embeddings=32768,
            num_key_value_heads=32,
        ),
        WINDOW_ROWS,
    ),
    build=build,
    heads=heads("Qwen2", backbone, qa_prefix="transformer"),
    buffers=buffers,
    tiny={**TINY, "tie_word_embeddings": True},
    base={
        "vocab_size": 151936,
        "hidden_size": 896,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "intermediate_size": 4864,
        "max_position_embeddings": 32768,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": True,
        "pad_token_id": 151643,
    },
)
