"""What models of pictures share: config keys, names of embeddings, heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from biject.config.checks import activation, boolean, integer, number, probability
from biject.config.common import COMMON
from biject.config.heads import HeadConfig
from biject.config.layers import AttentionConfig, AttentionSpec, LayerConfig, MLPConfig, NormConfig
from biject.config.model import EmbeddingConfig, ModelConfig, PatchConfig
from biject.config.table import Inert, Key, Row
from biject.errors import ConfigError
from biject.families._family import Head
from biject.weights.rules import ParamSpecs, head, join, linear, optional, tensor

Values = Mapping[str, Any]
Names = Callable[[Values], ParamSpecs]

_LARGEST_SIDE = 2**16
"""Of a picture: no more positions than 32 bits count."""


def sides(value: Any) -> str | None:
    """A size, or height and width."""
    whole = integer(1)
    listed = value if isinstance(value, list | tuple) and len(value) == 2 else [value]
    if any(whole(one) is not None or one > _LARGEST_SIDE for one in listed):
        return f"a whole number from 1 to {_LARGEST_SIDE}, or two of them"
    return None


def vision_rows(*, patch_size: int, norm_eps: float) -> tuple[Row, ...]:
    """Keys that all have; the arguments are HF's defaults (configuration_vit.py and cousins, 5.23)."""
    return (
        *COMMON,
        Key("hidden_size", "hidden_size", integer(1), 768),
        Key("num_hidden_layers", "num_hidden_layers", integer(1), 12),
        Key("num_attention_heads", "num_attention_heads", integer(1), 12),
        Key("hidden_act", "hidden_act", activation, "gelu"),
        Key("hidden_dropout_prob", "hidden_dropout", probability(), 0.0),
        Key("attention_probs_dropout_prob", "attention_dropout", probability(), 0.0),
        Key("layer_norm_eps", "norm_eps", number(0.0), norm_eps),
        Key("image_size", "image_size", sides, 224),
        Key("patch_size", "patch_size", sides, patch_size),
        Key("num_channels", "num_channels", integer(1), 3),
        Key("qkv_bias", "qkv_bias", boolean, True),
        Inert(("chunk_size_feed_forward", "pad_token_id", "encoder_stride")),
    )


IN_MEMORY = (
    ("attention.attention.query", "attention.q_proj"),
    ("attention.attention.key", "attention.k_proj"),
    ("attention.attention.value", "attention.v_proj"),
    ("attention.output.dense", "attention.o_proj"),
)
"""Names in memory of transformers 5.23 (conversion_mapping.py, "Dinov2Model")."""


def embedding_names(*more: str) -> ParamSpecs:
    """Learned rows (the class token and `more`), positions, patches."""
    return join(
        *(tensor(f"embed.{name}", f"embeddings.{name}") for name in ("cls_token", *more)),
        tensor("embed.positions", "embeddings.position_embeddings"),
        linear("embed.patches", "embeddings.patch_embeddings.projection"),
    )


def attention_names(v: Values) -> ParamSpecs:
    """Inside a layer."""
    return join(
        *(
            linear(f"attn.{own}_proj", f"attention.attention.{name}", bias=v["qkv_bias"])
            for own, name in (("q", "query"), ("k", "key"), ("v", "value"))
        ),
        linear("attn.o_proj", "attention.output.dense"),
    )


def vision_heads(stem: str, backbone: Names, *, pooler: bool = False) -> dict[str, Head]:
    """The base model and the classifier of pictures."""
    pooled = optional(linear("head.pooler", "pooler.dense")) if pooler else ()
    return {
        "base": Head(hf_class=f"{stem}Model", specs=lambda v: join(backbone(v), pooled)),
        "imgcls": Head(
            hf_class=f"{stem}ForImageClassification",
            specs=lambda v: join(backbone(v), head(linear("head.out", "classifier"))),
        ),
    }


def patches(v: Values, **options: Any) -> PatchConfig:
    """How pictures become rows.

    Raises:
        ConfigError: no patch fits into a picture.
    """
    size, patch = _pair(v["image_size"]), _pair(v["patch_size"])
    if size[0] < patch[0] or size[1] < patch[1]:
        raise ConfigError(f"config.json: `patch_size` {patch} is larger than `image_size` {size}.")
    return PatchConfig(image_size=size, patch_size=patch, num_channels=v["num_channels"], **options)


def vision_layer(v: Values, mlp: MLPConfig, *, softmax: Any, **options: Any) -> LayerConfig:
    """A pre-norm layer."""
    width, heads = v["hidden_size"], v["num_attention_heads"]
    if width % heads:
        raise ConfigError(
            f"config.json: `hidden_size` {width} is not a multiple of `num_attention_heads` {heads}."
        )
    one = NormConfig(kind="layer", eps=v["norm_eps"])
    spec = AttentionSpec(
        num_heads=heads,
        num_key_value_heads=heads,
        head_dim=width // heads,
        scale=(width // heads) ** -0.5,
        dropout=v["attention_dropout"],
        softmax=softmax,
    )
    return LayerConfig(
        hidden_size=width,
        attention=AttentionConfig(hidden_size=width, spec=spec, qkv_bias=v["qkv_bias"]),
        mlp=mlp,
        attn_norm=one,
        mlp_norm=one,
        placement="pre",
        **options,
    )


def vision_model(v: Values, layer: LayerConfig, cut: PatchConfig, top: HeadConfig) -> ModelConfig:
    """Equal layers over patches, a norm after them."""
    return ModelConfig(
        vocab_size=0,
        hidden_size=v["hidden_size"],
        pad_token_id=None,
        embedding=EmbeddingConfig(
            size=v["hidden_size"],
            max_position_embeddings=cut.num_positions + cut.registers,
            dropout=v["hidden_dropout"],
            patches=cut,
        ),
        layers=(layer,) * v["num_hidden_layers"],
        layer_order=tuple(range(v["num_hidden_layers"])),
        final_norm=NormConfig(kind="layer", eps=v["norm_eps"]),
        hidden_before_norm=True,
        tied_output=False,
        initializer_range=v["initializer_range"],
        output_hidden_states=bool(v["output_hidden_states"]),
        output_attentions=bool(v["output_attentions"]),
        head=top,
    )


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


TINY: Mapping[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 20,
    "patch_size": 4,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
}
