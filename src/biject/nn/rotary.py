"""Rotary positions: queries and keys are rotated by angles that grow with the position.

Source: Su et al. 2021, arXiv:2104.09864; transformers 5.23, modeling_llama.py (LlamaRotaryEmbedding).
"""

from __future__ import annotations

import torch
from torch import Tensor

from biject.config.rope import RopeConfig
from biject.nn.rope_types import dynamic_frequencies, frequencies


class Rotary:
    """Cosines and sines of positions. Its frequencies stay float32 in every dtype.

    Shape: positions (B or 1, L) → cosines and sines (B or 1, L, E).

    For `dynamic` and `longrope` the largest position of a call decides for all of it. HF's `dynamic` also
    remembers the longest text since the last short one; here a call does not depend on those before it.
    """

    def __init__(self, config: RopeConfig) -> None:
        self.config = config
        self.frequencies, self.factor = frequencies(config)
        self.long_frequencies = frequencies(config, long=True)[0] if config.type == "longrope" else None

    @torch.no_grad()
    def __call__(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        angles = positions[..., None].float() * self._frequencies(positions)
        both = torch.cat((angles, angles), dim=-1)
        dtype = torch.float32 if self.config.float32_angles else dtype
        return (both.cos() * self.factor).to(dtype), (both.sin() * self.factor).to(dtype)

    def _frequencies(self, positions: Tensor) -> Tensor:
        config, device = self.config, positions.device
        if config.type == "dynamic":
            length = torch.max(positions) + 1
            if length > config.max_position_embeddings:
                return dynamic_frequencies(config, length)
        if self.long_frequencies is not None:
            assert config.original_max_position_embeddings is not None
            if torch.max(positions) + 1 > config.original_max_position_embeddings:
                return self.long_frequencies.to(device)
        if self.frequencies.device != device:
            self.frequencies = self.frequencies.to(device)
        return self.frequencies


def rotated(x: Tensor, cos: Tensor, sin: Tensor, *, float32: bool = False, narrow: bool = False) -> Tensor:
    """Each pair (i, i + E / 2) of every head rotated by its token's angle.

    Heads come before tokens, (B, H, L, E) with angles (B, L, E), or after them, (T, H, E) with (T, E). In
    HF's order, which is also the order in which autograd adds up the two gradients; `float32` casts `x`
    twice, as HF does (modeling_modernbert.py), so that its gradient is the sum of two that were cast;
    `narrow` casts back what wider angles gave (modeling_olmo2.py).
    """
    width = cos.shape[-1]
    if width < x.shape[-1]:  # the rest of each head stays as it is (modeling_phi3.py)
        return torch.cat(
            (rotated(x[..., :width], cos, sin, float32=float32, narrow=narrow), x[..., width:]), dim=-1
        )
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    if float32:
        return ((x.float() * cos) + (_crossed(x.float()) * sin)).to(x.dtype)
    turned = (x * cos) + (_crossed(x) * sin)
    return turned.to(x.dtype) if narrow else turned


def _crossed(x: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    return torch.cat((-second, first), dim=-1)
