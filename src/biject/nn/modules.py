"""torch's building blocks without initial values: parameters start on the meta device and come from a file.

Drawing random weights only to replace them costs more than all the rest of building a model, and
could hide a tensor that was never read. A parameter that nobody places stays on the meta device and
cannot be computed with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from biject.config.layers import NormConfig
from biject.nn import lookup
from biject.nn.rowwise import Form, RowOp


def _start(module: nn.Module, shapes: Mapping[str, tuple[int, ...] | None], **settings: object) -> None:
    """What torch's constructor leaves in a module, written down at once, parameters on the meta device.

    Hundreds of them are made for one model, and `Module.__setattr__`, which asks of each value whether it is
    a parameter, a buffer or a module, takes much of the time of a load. Tests hold the result against
    torch's own.
    """
    nn.Module.__init__(module)
    module.__dict__.update(settings)
    for name, shape in shapes.items():
        empty = None if shape is None else nn.Parameter(torch.empty(shape, device="meta"))
        module._parameters[name] = empty


def settle(module: nn.Module, **settings: object) -> None:
    """Set plain values: no parameter, no module (see `_start` for why not one by one)."""
    module.__dict__.update(settings)


class Linear(nn.Linear):
    """`torch.nn.Linear`, parameters on the meta device."""

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True) -> None:
        shapes = {"weight": (out_features, in_features), "bias": (out_features,) if bias else None}
        _start(self, shapes, in_features=in_features, out_features=out_features)

    def reset_parameters(self) -> None:
        """Nothing: values come from a file."""

    def row_ops(self) -> tuple[RowOp, ...]:
        """The product."""
        form: Form = "plain" if self._parameters["bias"] is None else "bias"
        return (RowOp("linear", form, self.in_features, self.out_features),)


class AddedBiasLinear(Linear):
    """A linear whose bias is added after the product and not fused into it: the last bit can differ."""

    def forward(self, x_TD: Tensor) -> Tensor:
        return torch.matmul(x_TD, self.weight.t()) + self.bias

    def row_ops(self) -> tuple[RowOp, ...]:
        """The product."""
        return (RowOp("linear", "plain", self.in_features, self.out_features),)


class TransposedLinear(nn.Module):
    """A linear whose matrix is stored (in, out); its parameters start on the meta device.

    Shape: (T, in) → (T, out).
    Source: transformers 5.23, pytorch_utils.py (Conv1D).
    """

    weight: nn.Parameter
    bias: nn.Parameter

    def __init__(self, in_features: int, out_features: int) -> None:
        _start(self, {"weight": (in_features, out_features), "bias": (out_features,)})

    def forward(self, x_TD: Tensor) -> Tensor:
        return torch.addmm(self.bias, x_TD, self.weight)

    def row_ops(self) -> tuple[RowOp, ...]:
        """The product."""
        return (RowOp("linear", "transposed", *self.weight.shape),)


class Matrices(nn.Module):
    """Matrices that another module multiplies with, by name; parameters on the meta device."""

    weight: nn.Parameter

    def __init__(self, **shapes: tuple[int, ...]) -> None:
        _start(self, shapes)


class RMSNorm(nn.Module):
    """Divides by the root mean square over the last axis, computed in float32 (Zhang and Sennrich 2019,
    arXiv:1910.07467); the weight starts on the meta device.

    Source: transformers 5.23, modeling_llama.py (LlamaRMSNorm).
    """

    weight: nn.Parameter
    eps: float

    def __init__(self, size: int, *, eps: float) -> None:
        _start(self, {"weight": (size,)}, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(torch.float32)
        mean_square = wide.pow(2).mean(-1, keepdim=True)
        return self.weight * (wide * torch.rsqrt(mean_square + self.eps)).to(x.dtype)

    def row_ops(self) -> tuple[RowOp, ...]:
        """The norm."""
        return (RowOp("norm", "rms", *self.weight.shape),)


class WideRMSNorm(RMSNorm):
    """The same, weighted in float32 before it is cast back.

    Source: transformers 5.23, modeling_olmo2.py (Olmo2RMSNorm).
    """

    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(torch.float32)
        mean_square = wide.pow(2).mean(-1, keepdim=True)
        return (self.weight * (wide * torch.rsqrt(mean_square + self.eps))).to(x.dtype)

    def row_ops(self) -> tuple[RowOp, ...]:
        """The norm."""
        return (RowOp("norm", "rms", *self.weight.shape),)


class FromOneRMSNorm(RMSNorm):
    """The same, weighted in float32 by one more than the parameter.

    Source: transformers 5.23, modeling_gemma2.py (Gemma2RMSNorm).
    """

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return (wide * (1.0 + self.weight.float())).type_as(x)

    def row_ops(self) -> tuple[RowOp, ...]:
        """The norm."""
        return (RowOp("norm", "rms", *self.weight.shape),)


_RMS_NORMS = {"own": RMSNorm, "float32": WideRMSNorm, "from-one": FromOneRMSNorm}


class LayerNorm(nn.LayerNorm):
    """`torch.nn.LayerNorm` over the last axis, parameters on the meta device."""

    def __init__(self, size: int, *, eps: float, bias: bool = True) -> None:
        shape = (size,)
        shapes = {"weight": shape, "bias": shape if bias else None}
        _start(self, shapes, normalized_shape=shape, eps=eps, elementwise_affine=True)

    def reset_parameters(self) -> None:
        """Nothing: values come from a file."""

    def row_ops(self) -> tuple[RowOp, ...]:
        """The norm."""
        return (RowOp("norm", "layer", *self.normalized_shape),)


class Embedding(nn.Embedding):
    """`torch.nn.Embedding`, the table on the meta device.

    Attributes:
        keeps_gradient: The memory of its gradient is used again (`nn/lookup.py`).
    """

    keeps_gradient: bool = True

    def __init__(self, num_embeddings: int, size: int, *, padding_idx: int | None = None) -> None:
        super().__init__(num_embeddings, size, padding_idx=padding_idx, device="meta")

    def reset_parameters(self) -> None:
        """Nothing: values come from a file."""

    def forward(self, ids: Tensor) -> Tensor:
        if not self.keeps_gradient or torch.compiler.is_compiling():
            return super().forward(ids)
        if self.training and lookup.takes(self.weight):
            return lookup.rows_of(self, ids)
        lookup.forget(self)
        return super().forward(ids)


class ScaledEmbedding(Embedding):
    """A table whose rows are multiplied by a number, rounded to their dtype before.

    Source: transformers 5.23, modeling_gemma2.py (Gemma2TextScaledWordEmbedding).
    """

    def __init__(
        self, num_embeddings: int, size: int, *, padding_idx: int | None = None, embed_scale: float
    ) -> None:
        super().__init__(num_embeddings, size, padding_idx=padding_idx)
        self.embed_scale = embed_scale

    def forward(self, ids: Tensor) -> Tensor:
        return scaled_rows(self, super().forward(ids))


def scaled_rows(table: nn.Module, x: Tensor) -> Tensor:
    """Rows times what a table multiplies them by, where it does."""
    scale: Any = getattr(table, "embed_scale", None)
    return x if scale is None else x * x.new_full((), scale)


class Conv1d(nn.Conv1d):
    """`torch.nn.Conv1d` that keeps the length of its input, parameters on the meta device."""

    def __init__(self, width: int, kernel_size: int, *, groups: int) -> None:
        padding = (kernel_size - 1) // 2
        super().__init__(width, width, kernel_size, padding=padding, groups=groups, device="meta")

    def reset_parameters(self) -> None:
        """Nothing: values come from a file."""

    def row_ops(self) -> tuple[RowOp, ...]:
        """None: it is given the whole grid."""
        return ()


class PatchConv(nn.Conv2d):
    """A convolution whose kernels stand side by side, parameters on the meta device."""

    def __init__(self, channels: int, width: int, patch_size: tuple[int, int]) -> None:
        super().__init__(channels, width, kernel_size=patch_size, stride=patch_size, device="meta")

    def reset_parameters(self) -> None:
        """Nothing: values come from a file."""

    def row_ops(self) -> tuple[RowOp, ...]:
        """None: it is given whole pictures."""
        return ()


class Scale(nn.Module):
    """Multiplies every row by a learned vector (layer scale, Touvron et al. 2021, arXiv:2103.17239)."""

    weight: nn.Parameter

    def __init__(self, size: int) -> None:
        _start(self, {"weight": (size,)})

    def forward(self, x_TD: Tensor) -> Tensor:
        return x_TD * self.weight

    def row_ops(self) -> tuple[RowOp, ...]:
        """Nothing that minds its neighbours: one product a number."""
        return ()


def make_norm(config: NormConfig, size: int) -> nn.Module:
    """The norm over `size` values that a config describes."""
    if config.kind == "none":
        return nn.Identity()
    if config.kind == "rms":
        return _RMS_NORMS[config.weight](size, eps=config.eps)
    return LayerNorm(size, eps=config.eps, bias=config.bias)


def make_linear(in_features: int, out_features: int, *, bias: bool, transposed: bool) -> nn.Module:
    """A linear stored (out, in), or `transposed`; the latter always has a bias."""
    if transposed:
        assert bias, "nothing stores (in, out) without a bias"
        return TransposedLinear(in_features, out_features)
    return Linear(in_features, out_features, bias=bias)
