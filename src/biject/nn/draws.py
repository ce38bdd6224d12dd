"""Dropout by sixteen random bits a number, where nothing asks for the draws of HF's run.

torch draws a double for every number, one after another (5.7 ns each on an AMD EPYC); four numbers' bits out
of one 64-bit draw take 0.8 ns, and two bytes a number are all that the backward pass has to keep. The rate is
met to 2⁻¹⁷, and what is kept is scaled by the rate that is met, so that expectations are exact.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_LEVELS, _LOWEST = 1 << 16, -(1 << 15)
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def draw_bits(count: int) -> Tensor:
    """(count,) int16, each value equally likely, by torch's generator of the CPU."""
    drawn = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
    return drawn.view(torch.int16)[:count]


def keep_factors(bits_N: Tensor, rate: float) -> Tensor:
    """(N,) float32: 0 where a number is dropped, else what makes up for those that are."""
    dropped = round(rate * _LEVELS)
    factors_N = bits_N.to(torch.float32)
    return factors_N.ge_(_LOWEST + dropped).mul_(_LEVELS / (_LEVELS - dropped))


def takes_bits(rate: float) -> bool:
    """Whether sixteen bits can tell this rate from 0 and from 1."""
    return 0 < round(rate * _LEVELS) < _LEVELS


def dropped(
    x_TD: Tensor, dropout: nn.Module, *, own_draws: bool, residual_TD: Tensor | None = None
) -> Tensor:
    """Dropout, then the sum with `residual_TD`.

    Args:
        x_TD: rows.
        dropout: the module that says how much and whether.
        own_draws: nobody asks for torch's draws.
        residual_TD: added afterwards.
    """
    if own_draws and _is_plain(dropout) and x_TD.dtype in _DTYPES and not torch.compiler.is_compiling():
        found: Tensor = _Dropped.apply(x_TD, residual_TD, dropout.p)  # type: ignore[no-untyped-call]
        return found
    out: Tensor = dropout(x_TD)
    return out if residual_TD is None else out + residual_TD


def _is_plain(dropout: nn.Module) -> bool:
    """An `nn.Dropout` that is switched on, at a rate that bits can tell."""
    if type(dropout) is not nn.Dropout or not dropout.training or dropout.inplace:
        return False
    return takes_bits(dropout.p)


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, residual: Tensor | None, rate: float) -> Tensor:
        bits_N = draw_bits(x.numel())
        ctx.save_for_backward(bits_N)
        ctx.rate, ctx.dtype = rate, x.dtype
        ctx.residual_dtype = None if residual is None else residual.dtype
        out = x * keep_factors(bits_N, rate).view(x.shape).to(x.dtype)
        if residual is None:
            return out
        return out.add_(residual) if residual.dtype == out.dtype else out + residual

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        (bits_N,) = ctx.saved_tensors
        factors = keep_factors(bits_N, ctx.rate).view(grad.shape)
        residual = None if ctx.residual_dtype is None else grad.to(ctx.residual_dtype)
        return grad.to(ctx.dtype) * factors.to(ctx.dtype), residual, None
