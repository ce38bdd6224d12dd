"""SmolLM3 (Bakouch et al. 2025): LLaMA with layers that have no positions and may have windows. Source:
transformers 5.23, models/smollm3/modeling_smollm3.py.
"""

from __future__ import annotations

from dataclasses import replace

from biject.config.checks import anything, boolean, integer, number
from biject.config.model import ModelConfig
from biject.config.table import ConfigTable, Key
from biject.errors import ConfigError
from biject.families import _decoder
from biject.families._decoder import TINY, Values, buffers, heads, llama_rows, window_layers
from biject.families._family import Family
from biject.families.llama import backbone


def build(v: Values, name: str) -> ModelConfig:
    """The modules' config: some layers without positions, some with a window."""
    bias, rotated = v["attention_bias"], _rotated(v)
    built = _decoder.build(
        v, name, qkv_bias=bias, out_bias=bias, mlp_bias=v["mlp_bias"], windows=_windows(v, rotated)
    )
    layers = (
        layer if has else replace(layer, attention=replace(layer.attention, rope=None))
        for layer, has in zip(built.layers, rotated, strict=True)
    )
    return replace(built, layers=tuple(layers))


def _rotated(v: Values) -> list[bool]:
    """Which layers have rotary positions: as listed (1 is yes), else all but every n-th."""
    count, listed, every = v["num_hidden_layers"], v["no_rope_layers"], v["no_rope_layer_interval"]
    if listed is None:
        return [(i + 1) % every != 0 for i in range(count)]
    if (
        not isinstance(listed, list | tuple)
        or len(listed) < count
        or any(one not in (0, 1) for one in listed)
    ):
        raise ConfigError(f"config.json: `no_rope_layers` should have a 0 or a 1 for each of {count} layers.")
    return [bool(one) for one in listed[:count]]


def _windows(v: Values, rotated: list[bool]) -> tuple[int | None, ...]:
    """By `layer_types`, else for layers without positions."""
    if v["layer_types"] is not None:
        return window_layers(v)
    window = v["sliding_window"] if v["use_sliding_window"] else None
    return tuple(None if has else window for has in rotated)


FAMILY = Family(
    model_type="smollm3",
    prefix="model",
    config=ConfigTable(
        llama_rows(
            vocab_size=128256, intermediate_size=11008, max_position_embeddings=32768, num_key_value_heads=4
        ),
        Key("use_sliding_window", "use_sliding_window", boolean, False),
        Key("hidden_size", "hidden_size", integer(1), 2048),
        Key("num_hidden_layers", "num_hidden_layers", integer(1), 36),
        Key("num_attention_heads", "num_attention_heads", integer(1), 16),
        Key("sliding_window", "sliding_window", integer(1, none=True), None),
        Key("layer_types", "layer_types", anything, None),
        Key("rope_theta", "rope_theta", number(0.0), 2000000.0),
        Key("pad_token_id", "pad_token_id", integer(none=True), 128004),
        Key("tie_word_embeddings", "tie_word_embeddings", boolean, True),
        Key("attention_bias", "attention_bias", boolean, False),
        Key("mlp_bias", "mlp_bias", boolean, False),
        Key("no_rope_layers", "no_rope_layers", anything, None),
        Key("no_rope_layer_interval", "no_rope_layer_interval", integer(1), 4),
    ),
    build=build,
    heads=heads("SmolLM3", backbone, qa_prefix="transformer"),
    buffers=buffers,
    tiny={
        **TINY,
        "num_hidden_layers": 3,
        "no_rope_layer_interval": 2,
        "use_sliding_window": True,
        "sliding_window": 7,
    },
)
