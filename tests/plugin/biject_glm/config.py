"""What the attention is built from; without torch, like all of a family's side."""

from __future__ import annotations

from dataclasses import dataclass

from biject.config.layers import AttentionSpec
from biject.config.rope import RopeConfig


@dataclass(frozen=True, kw_only=True)
class InterleavedConfig:
    """Attention whose rotary positions turn neighbouring pairs, in the first part of each head only."""

    hidden_size: int
    spec: AttentionSpec
    rope: RopeConfig
    """Its `head_dim` is the width of the part that is rotated."""
    qkv_bias: bool
