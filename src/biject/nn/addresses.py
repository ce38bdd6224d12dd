"""Where tensors begin in memory: on some machines the bits of a product depend on it.

MKL on AMD sums products of fewer than four rows by the operands' distance from an aligned address, and a
checkpoint's tensors lie wherever its header ends. So HF's own bits differ between two files with the same
tensors. Where the probe sees that, parameters that leave a file keep their distance, as HF's do, and the
verifier gives both sides the same one.
"""

from __future__ import annotations

from torch import Tensor, nn

from biject.nn.probe import addresses_matter

ALIGNED_BYTES = 64
"""What torch's own allocations begin at."""


def copied(tensor: Tensor) -> Tensor:
    """A copy in memory of its own; at the same distance from an aligned address where bits depend on it."""
    distance = tensor.data_ptr() % ALIGNED_BYTES
    if tensor.device.type != "cpu" or distance == 0 or not addresses_matter():
        return tensor.clone()
    return placed(tensor, distance)


def placed(tensor: Tensor, distance: int) -> Tensor:
    """A copy that begins so many bytes behind an aligned address, where its numbers can."""
    size = tensor.element_size()
    if distance % size or not tensor.is_contiguous():
        return tensor.clone()
    room = tensor.new_empty(tensor.numel() + ALIGNED_BYTES // size)
    start = (distance - room.data_ptr()) % ALIGNED_BYTES // size
    return room[start : start + tensor.numel()].view(tensor.shape).copy_(tensor)


def align(module: nn.Module) -> None:
    """Move parameters and buffers of the CPU to aligned addresses, where bits depend on it."""
    for tensor in _astray(module):
        tensor.data = tensor.data.clone()


def aligned(module: nn.Module) -> bool:
    """Whether `align` would move nothing."""
    return not _astray(module)


def _astray(module: nn.Module) -> list[Tensor]:
    """Parameters and buffers that begin elsewhere, where that matters."""
    if not addresses_matter():
        return []
    tensors = (*module.parameters(), *module.buffers())
    return [one for one in tensors if one.device.type == "cpu" and one.data_ptr() % ALIGNED_BYTES]
