"""How far apart two tensors are: bits first, then the largest difference, then units in the last place."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_INTEGER_OF = {
    torch.float64: torch.int64,
    torch.float32: torch.int32,
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
}

# The gate where it is not bits: largest distance, in ULPs of the expected tensor's largest magnitude. Empty:
# on the CPU float64, float32, bfloat16 and float16 were all measured bit-equal, forward and gradients, in all
# 30 cells of tiny size with 1 and 2 threads (AVX-512). A dtype gets an entry only with the measurement that
# needs it.
ULP_BOUND: dict[torch.dtype, int] = {}


@dataclass(frozen=True, kw_only=True)
class Distance:
    """Difference between two tensors.

    Attributes:
        same_bits: Every value has the same bits (so -0.0 is not 0.0, and a NaN equals only itself).
        max_abs: Largest absolute difference; infinite if shapes differ or NaNs are in different places.
        max_ulp: Largest distance in steps between representable numbers, for values of any size.
        scaled_ulp: The same in ULPs of the expected tensor's largest magnitude: not inflated by values near
            zero.
    """

    same_bits: bool
    max_abs: float
    max_ulp: int | None
    scaled_ulp: float

    def within(self, dtype: torch.dtype) -> bool:
        """Whether the gate for this dtype is met."""
        return self.same_bits or self.scaled_ulp <= ULP_BOUND.get(dtype, 0)

    def words(self, dtype: torch.dtype) -> str:
        """For a report's line."""
        if self.same_bits:
            return "bit-exact (max abs diff = 0)"
        if self.max_abs == 0:
            return "equal numbers, different bits (signs of zero or NaN payloads)"
        text = f"max abs diff = {self.max_abs:.3g}"
        if self.max_ulp is None:
            return text
        bound = f", bound {ULP_BOUND[dtype]}" if dtype in ULP_BOUND else ""
        return f"{text} ({self.scaled_ulp:.2g} ULP of the largest value{bound})"


def distance(ours: Tensor, theirs: Tensor) -> Distance:
    """Compare our tensor with the expected one; another shape or dtype is infinitely far."""
    far = Distance(same_bits=False, max_abs=float("inf"), max_ulp=None, scaled_ulp=float("inf"))
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return far
    ours, theirs = ours.detach().cpu(), theirs.detach().cpu()
    if same_bits(ours, theirs):
        return Distance(same_bits=True, max_abs=0.0, max_ulp=0, scaled_ulp=0.0)
    if not torch.equal(torch.isnan(ours), torch.isnan(theirs)):
        return far
    exact_ours, exact_theirs = ours.double(), theirs.double()
    same = (exact_ours == exact_theirs) | torch.isnan(exact_ours)  # inf - inf and nan - nan are no numbers
    max_abs = float((exact_ours - exact_theirs).masked_fill(same, 0.0).abs().max())
    if not ours.is_floating_point():
        return Distance(same_bits=False, max_abs=max_abs, max_ulp=None, scaled_ulp=float("inf"))
    top = float(exact_theirs.abs().nan_to_num(nan=0.0, posinf=float("inf")).max())
    unit = _ulp_at(top, theirs.dtype)
    return Distance(same_bits=False, max_abs=max_abs, max_ulp=_ulps(ours, theirs), scaled_ulp=max_abs / unit)


def same_bits(ours: Tensor, theirs: Tensor) -> bool:
    """Whether shape, dtype and every bit are the same."""
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return False
    whole = _INTEGER_OF.get(ours.dtype)
    if whole is None:
        return torch.equal(ours, theirs)
    return torch.equal(ours.contiguous().view(whole), theirs.contiguous().view(whole))


def _ulps(ours: Tensor, theirs: Tensor) -> int:
    """Largest count of representable numbers between the two, NaNs left out."""
    numbers = ~torch.isnan(ours) & ~torch.isnan(theirs)
    steps = [_ordered(tensor[numbers]) for tensor in (ours, theirs)]
    if not steps[0].numel():
        return 0
    return int((steps[0] - steps[1]).abs().max())


def _ordered(tensor: Tensor) -> Tensor:
    """Map floats to integers in the same order, neighbours one apart; both zeros are 0."""
    whole = tensor.contiguous().view(_INTEGER_OF[tensor.dtype]).long()
    lowest = torch.iinfo(_INTEGER_OF[tensor.dtype]).min
    return torch.where(whole < 0, lowest - whole, whole)


def _ulp_at(magnitude: float, dtype: torch.dtype) -> float:
    """The spacing of `dtype` at a magnitude."""
    info = torch.finfo(dtype)
    if magnitude <= info.tiny or magnitude == float("inf"):
        return float(info.tiny * info.eps)
    exponent = torch.frexp(torch.tensor(magnitude, dtype=torch.float64)).exponent.item() - 1
    return float(info.eps * 2.0**exponent)
