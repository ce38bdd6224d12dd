"""torch's building blocks without initial values: parameters start on the meta device and come from a file.

Drawing random weights only to replace them costs more than all the rest of building a model, and
could hide a tensor that was never read. A parameter that nobody places stays on the meta device and
cannot be computed with.
"""

from __future__ import annotations

from torch import nn


class Linear(nn.Linear):
    """`torch.nn.Linear`, parameters on the meta device."""

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias=bias, device="meta")

    def reset_parameters(self) -> None:
        """Nothing: values come from a file."""


class LayerNorm(nn.LayerNorm):
    """`torch.nn.LayerNorm` over the last axis, parameters on the meta device."""

    def __init__(self, size: int, *, eps: float) -> None:
        super().__init__(size, eps=eps, device="meta")

    def reset_parameters(self) -> None:
        """Nothing: values come from a file."""


class Embedding(nn.Embedding):
    """`torch.nn.Embedding`, the table on the meta device."""

    def __init__(self, num_embeddings: int, size: int, *, padding_idx: int | None = None) -> None:
        super().__init__(num_embeddings, size, padding_idx=padding_idx, device="meta")

    def reset_parameters(self) -> None:
        """Nothing: values come from a file."""


class Conv1d(nn.Conv1d):
    """`torch.nn.Conv1d` that keeps the length of its input, parameters on the meta device."""

    def __init__(self, width: int, kernel_size: int, *, groups: int) -> None:
        padding = (kernel_size - 1) // 2
        super().__init__(width, width, kernel_size, padding=padding, groups=groups, device="meta")

    def reset_parameters(self) -> None:
        """Nothing: values come from a file."""
