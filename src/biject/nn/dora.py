"""DoRA: the adapted matrix has a length of its own for every output (Liu et al. 2024, arXiv:2402.09353).

Source: PEFT 0.21, tuners/lora/dora.py: the order of operations is theirs; the norm of the adapted matrix has
no part in gradients (section 4.3).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biject.nn.lora_part import LoraPart
from biject.nn.modules import scaled_rows


def matrix(base: nn.Module) -> Tensor:
    """A linear's matrix as (out, in), of a table (D, V); a quantised one in plain numbers."""
    plain = getattr(base, "dequantized_weight", None)
    weight: Any = base.weight
    stored_in_out = not isinstance(base, nn.Linear)
    found = plain() if plain is not None else weight.t() if stored_in_out else weight
    assert isinstance(found, Tensor)
    return found


def lengths(weight: Tensor, delta: Tensor, scaling: float) -> Tensor:
    """Of each output's row of the adapted matrix: (out,)."""
    found: Tensor = torch.linalg.norm(weight + scaling * delta, dim=1).to(weight.dtype)
    return found


def first_magnitude(base: nn.Module, lora_A: Tensor, lora_B: Tensor, scaling: float) -> Tensor:
    """What the magnitudes begin with: the lengths there are."""
    half = lora_A.dtype == torch.float16
    a, b = (lora_A.float(), lora_B.float()) if half else (lora_A, lora_B)
    delta = (b @ a).half() if half else b @ a
    return lengths(matrix(base), delta, scaling).detach()


def dora_linear(part: LoraPart, x: Tensor, result: Tensor, *, base: nn.Module) -> Tensor:
    """(T, out): `result`, what the base gives, with the adapted part."""
    dropped = not isinstance(part.dropout, nn.Identity) and part.training
    x = part.dropout(x) if dropped else x
    eye = torch.eye(part.lora_A.shape[1], device=x.device, dtype=part.lora_A.dtype)
    with torch.no_grad():
        weight = matrix(base).to(x.dtype)
        length = lengths(weight, part.product(eye).t().to(x.dtype), part.scaling)
    assert part.lora_magnitude_vector is not None
    scale = (part.lora_magnitude_vector / length).view(1, -1)
    product = part.product(x)
    if dropped:
        plain = F.linear(x, matrix(base).to(x.dtype))
    else:
        bias: Any = base.bias
        plain = result if bias is None else result - bias
    return result + ((scale - 1) * plain + scale * product * part.scaling)


def dora_embedding(part: LoraPart, rows: Tensor, result: Tensor, *, base: nn.Module) -> Tensor:
    """(…, D): `result`, what the table gives, with the adapted part; `rows`: (…, r) of its own."""
    assert part.lora_magnitude_vector is not None
    with torch.no_grad():
        length = lengths(matrix(base), (part.lora_A.t() @ part.lora_B.t()).t(), part.scaling)
    scale = part.lora_magnitude_vector / length
    return scale * result + scaled_rows(base, scale * (rows @ part.lora_B.t()) * part.scaling)
