"""Gradient caching: a loss over a batch whose activations would not fit into memory.

Texts are embedded in mini-batches without gradients; the loss is computed of all vectors, and its gradients
by these are kept; then each mini-batch is embedded again, with the same random numbers, and its gradients
flow on from there. Gao et al. 2021, arXiv:2101.06983.

Source: sentence-transformers 6.2, base/losses/gradcache.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import get_device_states, set_device_states

from biject.tasks.losses.common import EmbeddingLoss

Inputs = Mapping[str, Tensor]
Embed = Callable[[Inputs], Tensor]
"""Vectors of texts, one a row of its tensors."""


class _Random:
    """The state of the random number generators before a mini-batch, of the CPU and of its device."""

    def __init__(self, inputs: Inputs) -> None:
        self.cpu = torch.get_rng_state()
        self.devices, self.states = get_device_states(*inputs.values())

    @contextmanager
    def again(self) -> Iterator[None]:
        """The same random numbers inside the block, as if it were not there for what follows."""
        with torch.random.fork_rng(devices=self.devices):
            torch.set_rng_state(self.cpu)
            set_device_states(self.devices, self.states)
            yield


class _Part(NamedTuple):
    """A mini-batch, its vectors without a graph, and what they were made with."""

    inputs: Inputs
    vectors: Tensor
    random: _Random


def cached_loss(
    loss: EmbeddingLoss, embed: Embed, columns: Sequence[Inputs], labels: Tensor | None
) -> Tensor:
    """A loss whose backward pass embeds the texts a second time.

    Args:
        loss: Says how many texts are embedded at once.
        embed: Gives vectors.
        columns: For each column of texts its tensors, one row a text.
        labels: One a row, where the loss takes some.
    """
    size = loss.mini_batch_size
    assert size is not None
    with torch.no_grad():
        parts = [[_part(embed, inputs) for inputs in _slices(column, size)] for column in columns]
    if not torch.is_grad_enabled():
        return loss([torch.cat([part.vectors for part in column]) for column in parts], labels)
    leaves = [[part.vectors.requires_grad_() for part in column] for column in parts]
    found = loss([torch.cat(column) for column in leaves], labels)
    found.backward()  # type: ignore[no-untyped-call]
    result = found.detach().requires_grad_()
    device = result.device.type
    autocast = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

    def backward(grad: Tensor) -> None:
        enabled, dtype = autocast
        for part in (part for column in parts for part in column):
            with torch.enable_grad(), part.random.again():
                with torch.autocast(device, dtype=dtype, enabled=enabled):
                    vectors = embed(part.inputs)
                kept = part.vectors.grad
                assert kept is not None
                if vectors.requires_grad:
                    torch.autograd.backward(vectors, (kept * grad).to(vectors.dtype))

    result.register_hook(backward)  # type: ignore[no-untyped-call]
    return result


def _part(embed: Embed, inputs: Inputs) -> _Part:
    random = _Random(inputs)
    return _Part(inputs, embed(inputs).detach().clone(), random)


def _slices(column: Inputs, size: int) -> Iterator[Inputs]:
    """Mini-batches without the columns that are padding in all of their rows, on the right."""
    mask = column["attention_mask"]
    for start in range(0, len(mask), size):
        width = int(mask[start : start + size].sum(-1).max())
        yield {
            name: value[start : start + size, :width] if value.dim() > 1 else value[start : start + size]
            for name, value in column.items()
        }
