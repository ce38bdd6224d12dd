"""Heads: what sits on the transformer. Each config type has its module in `nn/heads.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from biject.config.layers import NormConfig

ProblemType = Literal["regression", "single_label_classification", "multi_label_classification"]


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """What every head has."""

    num_labels: int = 0
    """Outputs; 0 for the base model."""
    dropout: float = 0.0
    """Before the output."""
    dropout_in: float = 0.0
    """Before the dense layer (or the output, where there is none)."""
    problem_type: ProblemType | None = None
    infer_problem: Literal["dtype", "shape"] = "dtype"
    """How an unset `problem_type` is inferred: from the labels' dtype (most families) or shape (DeBERTa)."""


@dataclass(frozen=True, kw_only=True)
class DenseConfig:
    """A linear, an activation and a norm (which may be the identity) before a head's output."""

    size: int
    act: str
    bias: bool = True
    norm: NormConfig = NormConfig(kind="none")  # noqa: RUF009


@dataclass(frozen=True, kw_only=True)
class BaseHeadConfig(HeadConfig):
    """No head: hidden states, and the first row's where the model has a pooler."""

    pooler: bool = False
    """A tanh-activated linear over the first row, as part of the transformer (BERT)."""


@dataclass(frozen=True, kw_only=True)
class PooledHeadConfig(HeadConfig):
    """One row of logits a text, from its first token or from the mean of its tokens."""

    pooling: Literal["first", "mean"] = "first"
    pooler: bool = False
    dense: DenseConfig | None = None


@dataclass(frozen=True, kw_only=True)
class LastHeadConfig(HeadConfig):
    """One row of logits a text, that of its last token."""


@dataclass(frozen=True, kw_only=True)
class RowHeadConfig(HeadConfig):
    """A few logits for every token."""

    dense: DenseConfig | None = None
    out_bias: bool = True


@dataclass(frozen=True, kw_only=True)
class TokenHeadConfig(RowHeadConfig):
    """Token classification."""

    float32_loss: bool = False
    """The loss is computed in float32 whatever the logits are in."""


@dataclass(frozen=True, kw_only=True)
class SpanHeadConfig(RowHeadConfig):
    """Extractive question answering: start and end."""


@dataclass(frozen=True, kw_only=True)
class DetectionHeadConfig(RowHeadConfig):
    """Replaced-token detection: one number a token (ELECTRA)."""


@dataclass(frozen=True, kw_only=True)
class VocabHeadConfig(HeadConfig):
    """A language model's output over the vocabulary."""

    dense: DenseConfig | None = None
    out_bias: bool = True
    bias_added: bool = False
    """The bias is added after the product, not fused into it; the last bit can differ."""
    causal: bool = False
    """Each token predicts the next one."""
    float32_loss: bool = False
