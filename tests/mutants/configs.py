"""Mutants that are built from a wrong config: what a family's file or a constructor could get wrong."""

from __future__ import annotations

from biject.config.model import ModelConfig
from mutants import changes
from mutants.adapter import COLUMNS
from mutants.axes import Axes
from mutants.mutant import Mutant, by_config, require

_ERF = ("gelu", "gelu_python", "gelu_10")
_TANH = ("gelu_new", "gelu_fast", "gelu_accurate", "gelu_pytorch_tanh", "gelu_python_tanh")
_TORCH_EPS, _HF_EPS = 1e-5, 1e-12


def positions_over_padding(config: ModelConfig, at: Axes) -> ModelConfig:
    """Positions count columns where they should count tokens that are no padding."""
    require(at.positions_after_pad and "positions" in at.tables, "positions do not depend on padding")
    return changes.with_positions_by_column(config)


def embedding_norm_left_out(config: ModelConfig, at: Axes) -> ModelConfig:
    """The sum of the embeddings is not normalised."""
    require(at.embedding_norm, "the sum of the embeddings is not normalised")
    return changes.without_embedding_norm(config)


def padding_not_zeroed(config: ModelConfig, at: Axes) -> ModelConfig:
    """Embeddings are not multiplied by the mask."""
    require(at.embedding_zeroed, "embeddings are not multiplied by the mask")
    return changes.without_zeroed_padding(config)


def other_gelu(config: ModelConfig, at: Axes) -> ModelConfig:
    """GELU's tanh approximation in place of erf, or the other way round."""
    require(at.activation in (*_ERF, *_TANH), f"the activation is {at.activation}, no GELU")
    return changes.with_activation(config, "gelu_pytorch_tanh" if at.activation in _ERF else "gelu")


def eps_default(config: ModelConfig, at: Axes) -> ModelConfig:
    """Norms have torch's default epsilon, not the config's."""
    return changes.with_eps(config, _HF_EPS if at.eps == _TORCH_EPS else _TORCH_EPS)


def layers_reversed(config: ModelConfig, at: Axes) -> ModelConfig:
    """Layers run in another order."""
    require(at.layer_order != at.layer_order[::-1], "the same layer runs at every step")
    return changes.with_layer_order(config, at.layer_order[::-1])


def head_activation_left_out(config: ModelConfig, at: Axes) -> ModelConfig:
    """The head's dense layer has no activation."""
    require(at.head_activation, "the head has no activation")
    return changes.without_head_activation(config)


def attention_dropout_left_out(config: ModelConfig, at: Axes) -> ModelConfig:
    """Attention weights are not dropped in training."""
    require(at.attention_dropout, "attention has no dropout")
    return changes.without_attention_dropout(config)


def table_norm_left_out(config: ModelConfig, at: Axes) -> ModelConfig:
    """The table of relative positions is not normalised."""
    require(at.relative_norm, "there is no table of relative positions with a norm")
    return changes.without_relative_norm(config)


def convolution_left_out(config: ModelConfig, at: Axes) -> ModelConfig:
    """The convolution beside the first layer is not there."""
    require(at.convolution, "the model has no convolution")
    return changes.without_convolution(config)


def rope_base_changed(config: ModelConfig, at: Axes) -> ModelConfig:
    """Rotary frequencies of another base."""
    require(at.rope_base, "the model has no rotary positions")
    return changes.with_rope_base(config, 2 * (at.rope_base or 0.0))


def window_one_too_wide(config: ModelConfig, at: Axes) -> ModelConfig:
    """A token sees one more than its window."""
    require(min(at.windows, default=COLUMNS) < COLUMNS, f"no layer has a window below {COLUMNS} tokens")
    return changes.with_wider_windows(config, 1)


def output_norms_left_out(config: ModelConfig, at: Axes) -> ModelConfig:
    """What attention and MLP give is not normalised."""
    require(at.output_norm, "norms stand elsewhere")
    return changes.without_output_norms(config)


def embedding_not_scaled(config: ModelConfig, at: Axes) -> ModelConfig:
    """Token rows are taken as they are."""
    require(at.embedding_scale is not None, "token rows are not scaled")
    return changes.without_embedding_scale(config)


def scores_not_capped(config: ModelConfig, at: Axes) -> ModelConfig:
    """Scores grow without bounds."""
    require(at.score_cap is not None, "scores are not capped")
    return changes.without_score_cap(config)


def logits_not_capped(config: ModelConfig, at: Axes) -> ModelConfig:
    """Logits grow without bounds."""
    require(at.logit_cap is not None, "logits are not capped")
    return changes.without_logit_cap(config)


CONFIGS: tuple[Mutant, ...] = (
    by_config("positions-over-padding", positions_over_padding),
    by_config("embedding-norm-left-out", embedding_norm_left_out),
    by_config("padding-not-zeroed", padding_not_zeroed),
    by_config("other-gelu", other_gelu),
    by_config("eps-default", eps_default),
    by_config("layers-reversed", layers_reversed),
    by_config("head-activation-left-out", head_activation_left_out),
    by_config("table-norm-left-out", table_norm_left_out),
    by_config("convolution-left-out", convolution_left_out),
    by_config("rope-base-changed", rope_base_changed),
    by_config("window-one-too-wide", window_one_too_wide),
    by_config("output-norms-left-out", output_norms_left_out),
    by_config("embedding-not-scaled", embedding_not_scaled),
    by_config("scores-not-capped", scores_not_capped),
    by_config("logits-not-capped", logits_not_capped),
    by_config("attention-dropout-left-out", attention_dropout_left_out, level="gradients"),
)
