"""Parameters as step.c reads them: in place where the file's bytes will do, else laid out once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from biject.nn.modules import AddedBiasLinear, LayerNorm, Linear, RMSNorm, TransposedLinear
from biject.nn.native.structures import Matrix, Norm

Form = Literal["int8", "int4"]
FLOAT32, BFLOAT16, INT8, INT4 = range(4)
GROUP, BLOCK = 32, 64
PART = 4096
"""Rows that are rounded at a time, so that little memory is needed beside the result."""
_SHRINKS = (1.0, 0.9, 0.8)
"""Scales of a group of 4-bit codes that are tried: the least squared error wins."""


@dataclass(frozen=True, eq=False)
class Laid:
    """A matrix with the tensors that it points to."""

    weight: Tensor
    scale: Tensor | None
    bias: Tensor | None
    kind: int
    rows: int
    cols: int

    def part(self, start: int, rows: int) -> Matrix:
        """Some of its rows."""

        def at(x: Tensor | None) -> int | None:
            return None if x is None else x[start:].data_ptr()

        return Matrix(at(self.weight), at(self.scale), at(self.bias), self.kind, rows, self.cols)

    def whole(self) -> Matrix:
        """All of it."""
        return self.part(0, self.rows)

    @property
    def num_bytes(self) -> int:
        """What a product reads."""
        return self.weight.nbytes + (0 if self.scale is None else self.scale.nbytes)


def lay_out(module: nn.Module, form: Form | None) -> Laid | None:
    """A linear's matrix, (out, in), in this form or in its own dtype; None for what is no plain linear.

    Codes take multiples of 64 inputs: others stay in their dtype.
    """
    transposed = type(module) is TransposedLinear
    if not transposed and type(module) not in (Linear, AddedBiasLinear, nn.Linear):
        return None
    weight, bias = module.get_parameter("weight").detach(), module._parameters["bias"]
    rows = weight.t() if transposed else weight
    scale = None
    if form is not None and rows.shape[1] % BLOCK == 0:
        kind, (laid, scale) = (INT8, eight_bits(rows)) if form == "int8" else (INT4, four_bits(rows))
    elif rows.dtype in (torch.float32, torch.bfloat16):
        kind, laid = (FLOAT32 if rows.dtype is torch.float32 else BFLOAT16), rows.contiguous()
    else:
        return None
    wide = None if bias is None else bias.detach().float().contiguous()
    return Laid(laid, scale, wide, kind, *rows.shape)


def eight_bits(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Codes (N, K), uint8, that stand for (code − 128) · scale, and a scale a row, (N,)."""
    codes, scales = [], []
    for part in torch.split(rows, PART):
        wide = part.float()
        scale = wide.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / 127
        codes.append((wide / scale[:, None]).round_().add_(128).to(torch.uint8))
        scales.append(scale)
    return torch.cat(codes), torch.cat(scales)


def four_bits(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Codes (N, K / 2), two a byte (products.h says which), and a scale for each 32, (N, K / 32) bfloat16."""
    codes, scales = [], []
    for part in torch.split(rows, PART):
        code, scale = _nearest_codes(part.float().reshape(part.shape[0], -1, GROUP))
        halves = code.view(part.shape[0], -1, 2, GROUP)
        codes.append((halves[:, :, 0] | halves[:, :, 1] << 4).flatten(1))
        scales.append(scale)
    return torch.cat(codes), torch.cat(scales)


def _nearest_codes(groups: Tensor) -> tuple[Tensor, Tensor]:
    """The largest of a group, by its size, lies at code 0: one more code on the side that needs it."""
    largest = groups.gather(-1, groups.abs().argmax(-1, keepdim=True))
    best_code = best_scale = best_error = None
    for shrink in _SHRINKS:
        scale = (largest * (shrink / -8)).bfloat16()
        wide = scale.float()
        code = torch.where(wide == 0, 0.0, groups / wide).round_().clamp_(-8, 7)
        error = (code * wide - groups).square_().sum(-1, keepdim=True)
        if best_error is None or best_code is None or best_scale is None:
            best_code, best_scale, best_error = code, scale, error
            continue
        better = error < best_error
        best_code, best_scale = torch.where(better, code, best_code), torch.where(better, scale, best_scale)
        best_error = torch.where(better, error, best_error)
    assert best_code is not None
    assert best_scale is not None
    return best_code.add_(8).to(torch.uint8), best_scale.squeeze(-1)


def dequantised(laid: Laid) -> Tensor:
    """The float32 matrix (N, K) that the codes stand for."""
    if laid.kind == INT8:
        assert laid.scale is not None
        return (laid.weight.float() - 128) * laid.scale[:, None]
    if laid.kind == INT4:
        assert laid.scale is not None
        halves = laid.weight.view(laid.rows, -1, GROUP)
        codes = torch.stack([halves & 15, halves >> 4], dim=2).view(laid.rows, -1, GROUP)
        return ((codes.float() - 8) * laid.scale.float()[..., None]).flatten(1)
    return laid.weight.float()


def norm_parts(module: nn.Module | None) -> tuple[Norm, tuple[Tensor, ...]] | None:
    """A norm and the tensors that it points to; None for one that step.c does not know."""
    if module is None or type(module) is nn.Identity:
        return Norm(None, None, 0.0, 0), ()
    if type(module) not in (LayerNorm, RMSNorm):
        return None
    kind = 2 if type(module) is RMSNorm else 1
    wide = [module.get_parameter("weight").detach().float().contiguous()]
    bias = module._parameters.get("bias")
    if bias is not None:
        wide.append(bias.detach().float().contiguous())
    eps: float = module.eps  # type: ignore[assignment]
    return Norm(wide[0].data_ptr(), wide[1].data_ptr() if len(wide) > 1 else None, eps, kind), tuple(wide)
