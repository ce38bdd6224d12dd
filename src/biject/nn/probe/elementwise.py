"""Do activations and norms give a row the same bits in whatever place and company?

Vectorised loops treat the last few elements of each thread's share by other code.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from biject.nn.probe import store

_MANY = 1031
_SOME = (16, 17, 63, 250, 777)
_TAILS = range(1, 64)
"""Row counts for a dtype in which other code gives other bits so seldom that few samples miss it: vectorised
and scalar SiLU differ in one of some hundred numbers in float64, GELU after rounding to bfloat16 likewise.
"""
_OFFSETS = range(0, 900, 53)


def rowwise_holds(name: str, function: Callable[[Tensor], Tensor], width: int, dtype: torch.dtype) -> bool:
    """Whether rows of `width` have the same bits in every trial; `name` is what the answer is kept under."""
    question = f"rowwise {name} {width} {str(dtype).removeprefix('torch.')}"
    known = store.recall(question)
    if known is None:
        known = _measure(function, width, dtype)
        store.remember(question, known)
    return bool(known)


@store.plainly()
def _measure(function: Callable[[Tensor], Tensor], width: int, dtype: torch.dtype) -> bool:
    draw = torch.Generator().manual_seed(0)
    drawn = torch.float64 if dtype == torch.float64 else torch.float32
    x = (2 * torch.randn(_MANY, width, generator=draw, dtype=drawn)).to(dtype)
    whole = function(x)
    places = [(count, at) for count in _SOME for at in (0, 5)]
    if dtype != torch.float32:
        places += [(count, at) for count in _TAILS for at in _OFFSETS]
    return all(
        torch.equal(function(x[at : at + count].clone()), whole[at : at + count]) for count, at in places
    )
