"""Mistral (Jiang et al. 2023): LLaMA with a sliding window and no biases. Source: transformers 5.23,
models/mistral/modeling_mistral.py.
"""

from __future__ import annotations

from biject.config.checks import integer
from biject.config.model import ModelConfig
from biject.config.table import ConfigTable, Inert, Key
from biject.families import _decoder
from biject.families._decoder import TINY, Values, buffers, heads, llama_rows
from biject.families._family import Family
from biject.weights.rules import ParamSpecs


def backbone(v: Values) -> ParamSpecs:
    """The transformer."""
    return _decoder.backbone(v, qkv_bias=False, out_bias=False, mlp_bias=False, qk_norm=False)


def build(v: Values, name: str) -> ModelConfig:
    """The modules' config; every layer has the same window."""
    return _decoder.build(v, name, windows=(v["sliding_window"],) * v["num_hidden_layers"])


FAMILY = Family(
    model_type="mistral",
    prefix="model",
    config=ConfigTable(
        llama_rows(
            vocab_size=32000,
            intermediate_size=14336,
            max_position_embeddings=4096 * 32,
            num_key_value_heads=8,
        ),
        Key("sliding_window", "sliding_window", integer(1, none=True), 4096),
        Inert(("layer_types",)),
    ),
    build=build,
    heads=heads("Mistral", backbone),
    buffers=buffers,
    tiny={**TINY, "sliding_window": 7},
    base={
        "vocab_size": 32000,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "num_key_value_heads": 4,
        "intermediate_size": 2688,
        "max_position_embeddings": 2048,
        "sliding_window": 64,
        "pad_token_id": 0,
    },
)
