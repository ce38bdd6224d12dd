"""Rows of a model to one vector a text: pooling, and what comes behind it.

Source: sentence-transformers 6.2, modules/pooling.py and base/modules/dense.py, normalize.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Mode = Literal["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]


def pool(
    hidden_BLD: Tensor, mask_BL: Tensor, modes: Sequence[Mode], *, skip_B: Tensor | None = None
) -> Tensor:
    """One vector a text, (B, D × modes), from rows in float32 and a mask without gaps on the left.

    Args:
        hidden_BLD: The rows.
        mask_BL: 1 where there is a token.
        modes: What is computed, and joined.
        skip_B: How many of a text's first tokens, which are its prompt's, are left out.
    """
    places_L = torch.arange(hidden_BLD.shape[1], device=hidden_BLD.device)
    if skip_B is not None:
        mask_BL = mask_BL * (places_L >= skip_B.unsqueeze(1)).to(mask_BL.dtype)
    mask_BL1 = mask_BL.unsqueeze(-1).to(hidden_BLD.dtype)
    total_BD = (hidden_BLD * mask_BL1).sum(1)
    count_B1 = mask_BL1.sum(1).clamp(min=1e-9)
    rows_B = torch.arange(len(hidden_BLD), device=hidden_BLD.device)
    out = []
    for mode in modes:
        if mode == "cls":
            first_B = mask_BL.to(torch.int).argmax(1)
            out.append(hidden_BLD[rows_B, first_B])
        elif mode == "max":
            out.append(hidden_BLD.masked_fill(mask_BL1 == 0, -torch.inf).amax(1))
        elif mode == "mean":
            out.append(total_BD / count_B1)
        elif mode == "mean_sqrt_len_tokens":
            out.append(total_BD / count_B1.sqrt())
        elif mode == "weightedmean":
            weight_BL1 = mask_BL1 * (places_L + 1)[None, :, None]
            out.append((hidden_BLD * weight_BL1).sum(1) / weight_BL1.sum(1).clamp(min=1e-9))
        else:
            last_B = hidden_BLD.shape[1] - 1 - mask_BL.to(torch.int).flip(1).argmax(1)
            out.append((hidden_BLD * mask_BL1)[rows_B, last_B])
    return torch.cat(out, 1)


class Dense(nn.Module):
    """A linear behind pooling, with an activation, and the input added to it where it is residual."""

    def __init__(
        self, inputs: int, outputs: int, *, bias: bool, activation: nn.Module, residual: bool
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=bias)
        self.activation = activation
        self.adds_input = residual
        if residual and inputs != outputs:
            self.residual = nn.Linear(inputs, outputs, bias=False)

    def forward(self, x_BD: Tensor) -> Tensor:
        """(B, inputs) → (B, outputs)."""
        out: Tensor = self.activation(self.linear(x_BD))
        if not self.adds_input:
            return out
        return out + (self.residual(x_BD) if hasattr(self, "residual") else x_BD)


def behind(pooled_BD: Tensor, stages: Sequence[bool], dense: Iterable[nn.Module]) -> Tensor:
    """What comes behind pooling; for each stage whether it is a linear, the next one of `dense`."""
    linears = iter(dense)
    for is_dense in stages:
        pooled_BD = next(linears)(pooled_BD) if is_dense else F.normalize(pooled_BD, dim=-1)
    return pooled_BD
