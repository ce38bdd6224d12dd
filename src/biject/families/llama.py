"""LLaMA 1 to 3.x (Touvron et al. 2023). Source: transformers 5.23, models/llama/modeling_llama.py."""

from __future__ import annotations

from biject.config.checks import boolean
from biject.config.model import ModelConfig
from biject.config.table import ConfigTable, Key
from biject.errors import ConfigError
from biject.families import _decoder
from biject.families._decoder import TINY, Values, buffers, heads, llama_rows
from biject.families._family import Family
from biject.weights.rules import ParamSpecs


def backbone(v: Values) -> ParamSpecs:
    """The transformer."""
    bias = v["attention_bias"]
    return _decoder.backbone(v, qkv_bias=bias, out_bias=bias, mlp_bias=v["mlp_bias"], qk_norm=False)


def build(v: Values, name: str) -> ModelConfig:
    """The modules' config."""
    if v["hidden_size"] % v["num_attention_heads"]:
        raise ConfigError(
            f"config.json: `hidden_size` {v['hidden_size']} is not a multiple of `num_attention_heads` "
            f"{v['num_attention_heads']}."
        )
    bias = v["attention_bias"]
    return _decoder.build(v, name, qkv_bias=bias, out_bias=bias, mlp_bias=v["mlp_bias"])


FAMILY = Family(
    model_type="llama",
    prefix="model",
    config=ConfigTable(
        llama_rows(vocab_size=32000, intermediate_size=11008, max_position_embeddings=2048),
        Key("attention_bias", "attention_bias", boolean, False),
        Key("mlp_bias", "mlp_bias", boolean, False),
    ),
    build=build,
    heads=heads("Llama", backbone, qa_prefix="transformer"),
    buffers=buffers,
    tiny=TINY,
    base={
        "vocab_size": 32000,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "num_key_value_heads": 4,
        "intermediate_size": 2048,
        "max_position_embeddings": 2048,
        "pad_token_id": 0,
    },
)
