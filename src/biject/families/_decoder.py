"""What the LLaMA-like families share: config keys, names, checks, heads."""

from __future__ import annotations

from collections.abc import Sequence

from biject.config.checks import activation, anything, boolean, integer, number, probability
from biject.config.common import causal_rows
from biject.config.layers import AttentionConfig, AttentionSpec, LayerConfig, MLPConfig, NormConfig
from biject.config.model import EmbeddingConfig, ModelConfig
from biject.config.table import Inert, Key, Row
from biject.errors import ConfigError
from biject.families._decoder_heads import DROPOUTS, Values, check_pad, decoder, head_config, heads, with_spec
from biject.families._decoder_names import backbone, buffers
from biject.families._rope import ROPE_ROWS, rope

WINDOW_ROWS = (
    Key("use_sliding_window", "use_sliding_window", boolean, False),
    Key("sliding_window", "sliding_window", integer(1, none=True), 4096),
    Key("max_window_layers", "max_window_layers", integer(0), 28),
    Key("layer_types", "layer_types", anything, None),
)
"""Keys of Qwen's windows; see `window_layers`."""


def llama_rows(
    *,
    vocab_size: int,
    intermediate_size: int,
    max_position_embeddings: int,
    num_key_value_heads: int | None = None,
    head_dim: int | None = None,
) -> tuple[Row, ...]:
    """Keys of LLaMA's vocabulary of sizes; the arguments are HF's defaults (configuration_llama.py and
    cousins, 5.23).
    """
    return (
        *causal_rows(tied=False),
        *ROPE_ROWS,
        *DROPOUTS,
        Key("vocab_size", "vocab_size", integer(1), vocab_size),
        Key("hidden_size", "hidden_size", integer(1), 4096),
        Key("num_hidden_layers", "num_hidden_layers", integer(1), 32),
        Key("num_attention_heads", "num_attention_heads", integer(1), 32),
        Key("num_key_value_heads", "num_key_value_heads", integer(1, none=True), num_key_value_heads),
        Key("head_dim", "head_dim", integer(1, none=True), head_dim),
        Key("intermediate_size", "intermediate_size", integer(1), intermediate_size),
        Key("hidden_act", "hidden_act", activation, "silu"),
        Key("max_position_embeddings", "max_position_embeddings", integer(1), max_position_embeddings),
        Key("rms_norm_eps", "norm_eps", number(0.0), 1e-6),
        Key("attention_dropout", "attention_dropout", probability(), 0.0),
        Key("pad_token_id", "pad_token_id", integer(none=True), None),
        Key("token_classification_bias", "token_bias", boolean, True),
        Inert(("pretraining_tp",)),
    )


def build(
    v: Values,
    name: str,
    *,
    qkv_bias: bool = False,
    out_bias: bool = False,
    mlp_bias: bool = False,
    qk_norm: bool = False,
    windows: Sequence[int | None] | None = None,
) -> ModelConfig:
    """The modules' config."""
    count, width = v["num_hidden_layers"], v["head_dim"] or v["hidden_size"] // v["num_attention_heads"]
    groups = v["num_key_value_heads"] or v["num_attention_heads"]
    check_heads(v, width, groups)
    norm = NormConfig(kind="rms", eps=v["norm_eps"])
    attention = AttentionConfig(
        hidden_size=v["hidden_size"],
        spec=AttentionSpec(
            num_heads=v["num_attention_heads"],
            num_key_value_heads=groups,
            head_dim=width,
            scale=width**-0.5,
            causal=True,
            dropout=v["attention_dropout"],
            softmax="float32",
        ),
        qkv_bias=qkv_bias,
        out_bias=out_bias,
        qk_norm=norm if qk_norm else None,
        rope=rope(v, head_dim=width),
    )
    mlp = MLPConfig(
        hidden_size=v["hidden_size"],
        intermediate_size=v["intermediate_size"],
        act=v["hidden_act"],
        gate="separate",
        bias=mlp_bias,
    )
    layer = LayerConfig(
        hidden_size=v["hidden_size"],
        attention=attention,
        mlp=mlp,
        attn_norm=norm,
        mlp_norm=norm,
        placement="pre",
    )
    return decoder(
        v,
        layers=[with_spec(layer, window=window) for window in windows or (None,) * count],
        embedding=EmbeddingConfig(
            size=v["hidden_size"], max_position_embeddings=v["max_position_embeddings"]
        ),
        final_norm=norm,
        head=head_config(v, name),
    )


def check_heads(v: Values, width: int, groups: int) -> None:
    """Raise where sizes contradict each other; HF crashes on these."""
    if v["num_attention_heads"] % groups:
        raise ConfigError(
            f"config.json: `num_attention_heads` {v['num_attention_heads']} is not a multiple of "
            f"`num_key_value_heads` {groups}."
        )
    if width < 1 or width % 2:
        raise ConfigError(f"config.json: heads of width {width}: rotary positions need an even `head_dim`.")
    check_pad(v)


def window_layers(v: Values) -> tuple[int | None, ...]:
    """Windows of Qwen's rule: `layer_types`, else the layers from `max_window_layers` on.

    Raises:
        ConfigError: layer types that HF does not compute either.
    """
    window, count = v["sliding_window"] if v["use_sliding_window"] else None, v["num_hidden_layers"]
    types = v["layer_types"]
    if types is None:
        return tuple(window if i >= v["max_window_layers"] else None for i in range(count))
    kinds = ("full_attention", "sliding_attention")
    listed = isinstance(types, list | tuple) and all(each in kinds for each in types)
    if not listed or len(types) != count or (window is None and "sliding_attention" in types):
        raise ConfigError(
            f"config.json: `layer_types` should name full_attention or sliding_attention for each of {count} "
            "layers, the latter only where `use_sliding_window` is true and `sliding_window` is set."
        )
    return tuple(window if kind == "sliding_attention" else None for kind in types)


__all__ = [
    "TINY",
    "WINDOW_ROWS",
    "Values",
    "backbone",
    "build",
    "buffers",
    "decoder",
    "heads",
    "llama_rows",
    "window_layers",
    "with_spec",
]

TINY = {
    "vocab_size": 384,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "attention_dropout": 0.1,
}
