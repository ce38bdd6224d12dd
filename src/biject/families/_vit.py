"""What ViT and DeiT share."""

from __future__ import annotations

from biject.config.checks import activation, integer
from biject.config.common import num_labels
from biject.config.heads import BaseHeadConfig, HeadConfig, PooledHeadConfig
from biject.config.layers import MLPConfig
from biject.config.model import ModelConfig, PatchConfig
from biject.config.table import Key, Row
from biject.families._vision import (
    IN_MEMORY,
    Values,
    attention_names,
    embedding_names,
    vision_layer,
    vision_model,
    vision_rows,
)
from biject.weights.rules import ParamSpecs, join, layers, linear, norm

VIT_ROWS: tuple[Row, ...] = (
    *vision_rows(patch_size=16, norm_eps=1e-12),
    Key("intermediate_size", "intermediate_size", integer(1), 3072),
    Key("pooler_output_size", "pooler_size", integer(0, none=True), None),
    Key("pooler_act", "pooler_act", activation, "tanh"),
)


VIT_IN_MEMORY = (
    ("encoder.layer.", "layers."),
    *IN_MEMORY,
    ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"),
)
"""The same of "ViTModel"."""


def vit_backbone(v: Values, *tokens: str) -> ParamSpecs:
    """ViT without its pooler; `tokens` beside the class token."""
    return join(
        embedding_names(*tokens),
        layers(
            [f"encoder.layer.{i}" for i in range(v["num_hidden_layers"])],
            norm("attn_norm", "layernorm_before"),
            attention_names(v),
            norm("mlp_norm", "layernorm_after"),
            linear("mlp.up_proj", "intermediate.dense"),
            linear("mlp.down_proj", "output.dense"),
        ),
        norm("final_norm", "layernorm"),
    )


def vit_model(v: Values, cut: PatchConfig, top: HeadConfig) -> ModelConfig:
    """ViT and DeiT."""
    mlp = MLPConfig(
        hidden_size=v["hidden_size"], intermediate_size=v["intermediate_size"], act=v["hidden_act"]
    )
    dropout = v["hidden_dropout"]
    layer = vision_layer(v, mlp, softmax="float32", attn_dropout=dropout, mlp_dropout=dropout)
    return vision_model(v, layer, cut, top)


def vit_head(v: Values, name: str) -> HeadConfig:
    """The base model's pooler, or a linear over the class token's row."""
    if name == "imgcls":
        return PooledHeadConfig(num_labels=num_labels(v), problem_type=v["problem_type"])
    return BaseHeadConfig(pooler=True, pooler_size=v["pooler_size"] or None, pooler_act=v["pooler_act"])
