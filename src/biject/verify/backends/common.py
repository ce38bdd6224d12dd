"""What the tiers share: random tensors, and a check of two of them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from biject.errors import MissingExtraError
from biject.verify.numbers import distance
from biject.verify.report import Check


def check(name: str, ours: Tensor, theirs: Tensor, *, case: str = "") -> Check:
    """Whether two tensors have the same bits."""
    found = distance(ours.detach(), theirs.detach())
    return Check(
        name=f"{name} {tuple(theirs.shape)}",
        passed=found.same_bits,
        detail=found.words(theirs.dtype),
        case=case,
        max_abs_diff=found.max_abs,
        max_ulp=found.max_ulp,
    )


def random(*shape: int, seed: int) -> Tensor:
    """Normal values, the same for a seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def library(name: str, extra: str) -> Any:
    """An optional library.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingExtraError(f"{name} is not installed: pip install {extra}") from error
