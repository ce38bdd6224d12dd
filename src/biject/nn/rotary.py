"""Rotary positions: queries and keys are turned by angles that grow with the position.

Source: Su et al. 2021, arXiv:2104.09864; transformers 5.23, modeling_llama.py (LlamaRotaryEmbedding).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from biject.config.causal import RopeConfig
from biject.nn.rope_types import dynamic_frequencies, frequencies


class Rotary(nn.Module):
    """Cosines and sines of positions. Has no parameters; its frequencies stay float32 in every dtype.

    Shape: positions (B or 1, L) → cosines and sines (B or 1, L, E).

    For `dynamic` and `longrope` the largest position of a call decides for all of it. HF's `dynamic` also
    remembers the longest text since the last short one; here a call does not depend on those before it.
    """

    def __init__(self, rope: RopeConfig) -> None:
        super().__init__()
        self.rope = rope
        self.frequencies, self.factor = frequencies(rope)  # no buffer: .to(dtype) must not touch it
        self.long_frequencies = frequencies(rope, long=True)[0] if rope.type == "longrope" else None

    @torch.no_grad()
    def forward(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        angles = positions[..., None].float() * self._frequencies(positions)
        both = torch.cat((angles, angles), dim=-1)
        return (both.cos() * self.factor).to(dtype), (both.sin() * self.factor).to(dtype)

    def _frequencies(self, positions: Tensor) -> Tensor:
        rope, device = self.rope, positions.device
        if rope.type == "dynamic":
            length = torch.max(positions) + 1
            if length > rope.max_position_embeddings:
                return dynamic_frequencies(rope, length)
        if self.long_frequencies is not None:
            assert rope.original_max_position_embeddings is not None
            if torch.max(positions) + 1 > rope.original_max_position_embeddings:
                return self.long_frequencies.to(device)
        return self.frequencies.to(device)


def rotated(x_BHLE: Tensor, cos_BLE: Tensor, sin_BLE: Tensor) -> Tensor:
    """Each pair (i, i + E / 2) of every head turned by its token's angle: (B, H, L, E) → (B, H, L, E).

    In HF's order, which is also the order in which autograd adds up the two gradients.
    """
    return (x_BHLE * cos_BLE.unsqueeze(1)) + (_crossed(x_BHLE) * sin_BLE.unsqueeze(1))


def _crossed(x_BHLE: Tensor) -> Tensor:
    half = x_BHLE.shape[-1] // 2
    first, second = x_BHLE[..., :half], x_BHLE[..., half:]
    return torch.cat((-second, first), dim=-1)
