"""Configs that differ in one thing from a model's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from biject.config.layers import AttentionConfig, AttentionSpec, LayerConfig, NormConfig
from biject.config.model import ModelConfig


def _with_layers(config: ModelConfig, change: Callable[[LayerConfig], LayerConfig]) -> ModelConfig:
    return replace(config, layers=tuple(map(change, config.layers)))


def _with_attention(config: ModelConfig, change: Callable[[AttentionConfig], AttentionConfig]) -> ModelConfig:
    return _with_layers(config, lambda layer: replace(layer, attention=change(layer.attention)))


def _with_spec(config: ModelConfig, change: Callable[[AttentionSpec], AttentionSpec]) -> ModelConfig:
    return _with_attention(config, lambda attention: replace(attention, spec=change(attention.spec)))


def with_positions_by_column(config: ModelConfig) -> ModelConfig:
    return replace(config, embedding=replace(config.embedding, position_rule="arange"))


def without_embedding_norm(config: ModelConfig) -> ModelConfig:
    return replace(config, embedding=replace(config.embedding, norm=NormConfig(kind="none")))


def without_zeroed_padding(config: ModelConfig) -> ModelConfig:
    return replace(config, embedding=replace(config.embedding, zero_padding=False))


def with_activation(config: ModelConfig, name: str) -> ModelConfig:
    return _with_layers(config, lambda layer: replace(layer, mlp=replace(layer.mlp, act=name)))


def with_eps(config: ModelConfig, eps: float) -> ModelConfig:
    def layer(one: LayerConfig) -> LayerConfig:
        names = ("attn_norm", "attn_out_norm", "mlp_norm", "mlp_out_norm")
        return replace(one, **{name: replace(getattr(one, name), eps=eps) for name in names})

    config = _with_layers(config, layer)
    embedding = replace(config.embedding, norm=replace(config.embedding.norm, eps=eps))
    return replace(config, embedding=embedding, final_norm=replace(config.final_norm, eps=eps))


def without_output_norms(config: ModelConfig) -> ModelConfig:
    none = NormConfig(kind="none")
    return _with_layers(config, lambda layer: replace(layer, attn_out_norm=none, mlp_out_norm=none))


def without_embedding_scale(config: ModelConfig) -> ModelConfig:
    return replace(config, embedding=replace(config.embedding, scale=None))


def without_score_cap(config: ModelConfig) -> ModelConfig:
    return _with_spec(config, lambda spec: replace(spec, softcap=None))


def without_logit_cap(config: ModelConfig) -> ModelConfig:
    head: Any = config.head
    return replace(config, head=replace(head, softcap=None))


def with_layer_order(config: ModelConfig, order: tuple[int, ...]) -> ModelConfig:
    return replace(config, layer_order=order)


def without_head_activation(config: ModelConfig) -> ModelConfig:
    head: Any = config.head
    return replace(config, head=replace(head, dense=replace(head.dense, act="linear")))


def without_attention_dropout(config: ModelConfig) -> ModelConfig:
    return _with_spec(config, lambda spec: replace(spec, dropout=0.0))


def without_relative_norm(config: ModelConfig) -> ModelConfig:
    assert config.relative_table is not None
    return replace(config, relative_table=replace(config.relative_table, norm=NormConfig(kind="none")))


def without_convolution(config: ModelConfig) -> ModelConfig:
    return _with_layers(config, lambda layer: replace(layer, conv=None))


def with_rope_base(config: ModelConfig, theta: float) -> ModelConfig:
    def changed(attention: Any) -> Any:  # some layers may have no positions
        rope = attention.rope
        return attention if rope is None else replace(attention, rope=replace(rope, theta=theta))

    return _with_attention(config, changed)


def with_wider_windows(config: ModelConfig, by: int) -> ModelConfig:
    return _with_spec(
        config, lambda spec: replace(spec, window=None if spec.window is None else spec.window + by)
    )
