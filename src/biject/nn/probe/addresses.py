"""Do the bits of a product depend on where its operands begin in memory?"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from biject.nn.probe import store

_ROWS = (1, 2, 3, 5, 8, 17)
_SIZES = ((32, 32), (37, 64), (384, 96))
_SHIFTS = (0, 1, 2, 4, 6, 8)
"""In numbers of 4 bytes: safetensors begins tensors at multiples of 8 bytes, other files anywhere."""
_ROOM = 16


def addresses_matter() -> bool:
    """Whether a linear, or one of its gradients' products, has other bits at other addresses."""
    question = "bits depend on addresses"
    known = store.recall(question)
    if known is None:
        known = _measure()
        store.remember(question, known)
    return bool(known)


@store.plainly()
def _measure() -> bool:
    draw = torch.Generator().manual_seed(0)
    for inputs, outputs in _SIZES:
        weight = torch.randn(outputs, inputs, generator=draw)
        for rows in _ROWS:
            x = torch.randn(rows, inputs, generator=draw)
            first = None
            for shift in _SHIFTS:
                found = _products(x, _at(weight, shift))
                first = first or found
                if not all(map(torch.equal, first, found)):
                    return True
    return False


def _products(x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
    """What a linear computes forward and backward."""
    y = F.linear(x, weight)
    return y, y @ weight


def _at(tensor: Tensor, shift: int) -> Tensor:
    """A copy that begins `shift` numbers behind an aligned address."""
    room = tensor.new_empty(tensor.numel() + 2 * _ROOM)
    start = (-room.data_ptr() // tensor.element_size()) % _ROOM + shift
    return room[start : start + tensor.numel()].view(tensor.shape).copy_(tensor)
