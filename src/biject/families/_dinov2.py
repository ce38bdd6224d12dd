"""DINOv2 with and without registers (Oquab et al. 2023; Darcet et al. 2024)."""

from __future__ import annotations

from typing import Any

from biject.config.checks import boolean, integer, number, probability
from biject.config.common import num_labels
from biject.config.heads import BaseHeadConfig, HeadConfig, PatchMeanHeadConfig
from biject.config.layers import MLPConfig
from biject.config.model import ModelConfig
from biject.config.table import Inert, Key, Row
from biject.errors import ConfigError
from biject.families._family import Init
from biject.families._vision import (
    IN_MEMORY,
    TINY,
    Values,
    attention_names,
    embedding_names,
    patches,
    vision_layer,
    vision_model,
    vision_rows,
)
from biject.weights.rules import ParamSpecs, join, layers, linear, norm, tensor

DINO_TINY = {**TINY, "mlp_ratio": 2, "drop_path_rate": 0.1, "layerscale_value": 0.9}


DINO_IN_MEMORY = (
    *IN_MEMORY,
    ("mlp.weights_in", "mlp.gate_proj+mlp.up_proj"),
    ("mlp.weights_out", "mlp.down_proj"),
)


def dinov2_rows(*, patch_size: int) -> tuple[Row, ...]:
    """Keys of both; `patch_size` is HF's default."""
    return (
        *vision_rows(patch_size=patch_size, norm_eps=1e-6),
        Key("mlp_ratio", "mlp_ratio", integer(1), 4),
        Key("layerscale_value", "layerscale_value", number(), 1.0),
        Key("drop_path_rate", "drop_path_rate", probability(), 0.0),
        Key("use_swiglu_ffn", "use_swiglu_ffn", boolean, False),
        Inert(("apply_layernorm", "reshape_hidden_states", "out_features", "out_indices", "stage_names")),
        Inert(("_out_features", "_out_indices")),
    )


def dinov2_backbone(v: Values, *tokens: str) -> ParamSpecs:
    """Names of the transformer; `tokens` beside the class token."""
    if v["use_swiglu_ffn"]:
        mlp = join(linear("mlp.gate_up_proj", "mlp.weights_in"), linear("mlp.down_proj", "mlp.weights_out"))
    else:
        mlp = join(linear("mlp.up_proj", "mlp.fc1"), linear("mlp.down_proj", "mlp.fc2"))
    return join(
        embedding_names(*tokens),
        layers(
            [f"encoder.layer.{i}" for i in range(v["num_hidden_layers"])],
            norm("attn_norm", "norm1"),
            attention_names(v),
            tensor("attn_scale.weight", "layer_scale1.lambda1"),
            norm("mlp_norm", "norm2"),
            mlp,
            tensor("mlp_scale.weight", "layer_scale2.lambda1"),
        ),
        norm("final_norm", "layernorm"),
    )


def dinov2_model(v: Values, name: str, **cut: Any) -> ModelConfig:
    """The modules' config; `cut`: further fields of `PatchConfig`."""
    if v["drop_path_rate"] >= 1:
        raise ConfigError("config.json: `drop_path_rate` is 1: no sample would go through a layer.")
    inner = v["hidden_size"] * v["mlp_ratio"]
    gate: dict[str, Any] = {"act": v["hidden_act"]}
    if v["use_swiglu_ffn"]:
        inner, gate = (int(inner * 2 / 3) + 7) // 8 * 8, {"act": "silu", "gate": "stacked"}
    mlp = MLPConfig(hidden_size=v["hidden_size"], intermediate_size=inner, **gate)
    layer = vision_layer(v, mlp, softmax="own", scale=True, drop_path=v["drop_path_rate"])
    made = patches(v, other_sizes="always", float32=True, **cut)
    return vision_model(v, layer, made, _head(v, name, made.before_patches))


def _head(v: Values, name: str, skipped: int) -> HeadConfig:
    if name == "imgcls":
        return PatchMeanHeadConfig(num_labels=num_labels(v), problem_type=v["problem_type"], skipped=skipped)
    return BaseHeadConfig(first_row=True)


def dinov2_init(v: Values, memory: str) -> Init:
    """Normal, cut off at ±2 (`_init_weights`)."""
    del memory
    std = float(v["initializer_range"])
    return Init(std, 2 / std if std else None)
