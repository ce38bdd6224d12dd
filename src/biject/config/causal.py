"""What causal attention needs to know: heads, windows, scales, rotary positions. Part of `ModelConfig`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RopeType = Literal["default", "linear", "dynamic", "yarn", "longrope", "by-wavelength", "proportional"]
"""How the frequencies of rotary positions are scaled for long texts (transformers 5.23,
modeling_rope_utils.py, `ROPE_INIT_FUNCTIONS`); `by-wavelength` is its `llama3`.
"""


@dataclass(frozen=True, kw_only=True)
class RopeConfig:
    """Rotary positions (Su et al. 2021, arXiv:2104.09864). Fields that a type does not use are None."""

    type: RopeType
    theta: float
    head_dim: int
    max_position_embeddings: int
    factor: float | None = None
    """How many times longer texts get; of `yarn` and `longrope` None means as the lengths say."""
    original_max_position_embeddings: int | None = None
    """The length of training before the scaling: `yarn`, `longrope`, `by-wavelength`."""
    attention_factor: float | None = None
    """`yarn`, `longrope`: cosines and sines are multiplied by it; None for the paper's value."""
    beta_fast: float | None = None
    beta_slow: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True
    """`yarn`: the bounds of the ramp are whole numbers."""
    short_factor: tuple[float, ...] = ()
    long_factor: tuple[float, ...] = ()
    low_freq_factor: float | None = None
    high_freq_factor: float | None = None
    proportion: float = 1.0
    """`proportional`: how much of the head is turned."""


@dataclass(frozen=True, kw_only=True)
class CausalConfig:
    """Self-attention that looks at earlier tokens only."""

    num_key_value_heads: int
    """Each serves `num_attention_heads / num_key_value_heads` query heads that stand side by side."""
    head_dim: int
    scales: tuple[float, ...]
    """What scores are multiplied by, a layer each."""
    windows: tuple[int | None, ...]
    """How many tokens a token sees, itself included, a layer each; None for all."""
    rope: RopeConfig | None = None
    fused: bool = False
    """One `qkv_proj` instead of three projections."""
    qkv_bias: bool = False
    out_bias: bool = False
    qk_norm: bool = False
    """Queries and keys are normalised over the width of a head."""
    softmax: Literal["own", "float32"] = "float32"
    """The dtype of a softmax that is written out: the scores' own, or float32."""
    split_at_jumps: bool = False
    """Without a mask, jumps in `position_ids` are the ends of texts packed into one row."""
    upcast: bool = False
    """Scores are always written out and computed in float32, scaled inside the product."""
