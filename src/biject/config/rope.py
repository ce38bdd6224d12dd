"""Rotary positions, as `AttentionConfig` holds them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
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
    """How much of a head is rotated."""
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
    """`proportional`: how much of the head is rotated."""
    renewed: bool = False
    """`longrope`: HF's generation computes a text anew where it outgrows the original length (Phi-3)."""
    float32: bool = False
    """Queries and keys are rotated in float32 and cast back, each twice on the way in (ModernBERT)."""
    float32_angles: bool = False
    """Cosines and sines stay float32, whatever dtype is computed in (OLMo 2)."""

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        """Made once: layers look their angles up by it."""
        return hash(tuple(getattr(self, field.name) for field in fields(self)))
