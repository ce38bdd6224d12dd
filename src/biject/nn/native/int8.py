"""Linears of 8-bit codes for inference: weights rounded a scale a row, inputs a scale a row as they come.

Products of codes are exact sums (rows.c); a processor with VNNI computes them at four times float32's speed.
Rounding moves what comes out: docs/embeddings.md has by how much.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from biject.errors import ConfigError, InputError
from biject.nn.mlp import MLP
from biject.nn.modules import AddedBiasLinear, Linear, TransposedLinear
from biject.nn.native.build import rows_library
from biject.nn.native.structures import Rows

_LANES, _FOUR, _MOST = 16, 4, 127


class Int8Linear(nn.Module):
    """A linear whose weights are codes; it has no gradients and is not saved.

    Shape: (T, in) → (T, out), float32.
    """

    codes: Tensor
    scale: Tensor
    bias: Tensor
    total: Tensor

    def __init__(self, rows: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = rows.shape
        self.gelu = False
        wide = torch.zeros(_up(self.out_features, _LANES), _up(self.in_features, _FOUR))
        wide[: self.out_features, : self.in_features] = rows.detach()
        scale = wide.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / _MOST
        codes = (wide / scale[:, None]).round_().to(torch.int8)
        blocks = codes.view(-1, _LANES, wide.shape[1] // _FOUR, _FOUR).transpose(1, 2).contiguous()
        added = torch.zeros(wide.shape[0])
        if bias is not None:
            added[: self.out_features] = bias.detach()
        for name, value in (("codes", blocks), ("scale", scale), ("bias", added),
                            ("total", codes.sum(1, dtype=torch.int32) * 128)):  # fmt: skip
            self.register_buffer(name, value, persistent=False)

    def row_ops(self) -> None:
        """Nothing is claimed about bits."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Casts of a whole model leave scales and biases what rows.c reads."""

        def kept(tensor: Tensor) -> Tensor:
            found = fn(tensor)
            return found if found.dtype == tensor.dtype else tensor.to(found.device)

        super()._apply(kept, recurse)  # type: ignore[no-untyped-call]
        return self

    def forward(self, x_TD: Tensor) -> Tensor:
        return _product(x_TD, self)

    def call(self, x: Tensor, y: Tensor) -> Rows:
        """What rows.c is given; x and y are not used where it is one of two products."""
        tensors = (x, y, self.codes, self.scale, self.bias, self.total)
        return Rows(
            *(tensor.data_ptr() for tensor in tensors), x.shape[0], self.in_features, self.out_features,
            self.gelu, torch.get_num_threads(),
        )  # fmt: skip


class Int8MLP(nn.Module):
    """Up, GELU and down in one call: what is between them is in the processor's cache only.

    Shape: (T, D) → (T, D).
    """

    def __init__(self, up_proj: Int8Linear, down_proj: Int8Linear) -> None:
        super().__init__()
        self.up_proj, self.down_proj = up_proj, down_proj
        up_proj.gelu = True

    def row_ops(self) -> None:
        """Nothing is claimed about bits."""

    def forward(self, x_TD: Tensor) -> Tensor:
        return _product(x_TD, self.up_proj, self.down_proj)


def _product(x_TD: Tensor, first: Int8Linear, second: Int8Linear | None = None) -> Tensor:
    if torch.is_grad_enabled() and x_TD.requires_grad:
        raise InputError("Linears of 8-bit codes have no gradients; load the model without quantization.")
    for held in (x_TD, first.codes, *(() if second is None else (second.codes,))):
        if held.device.type != "cpu":
            raise InputError(f"Linears of 8-bit codes compute on the CPU, found {held.device}.")
    x = x_TD.reshape(-1, first.in_features).float().contiguous()
    y = torch.empty(x.shape[0], (second or first).out_features)
    library = rows_library()
    assert library is not None
    then = None if second is None else ctypes.byref(second.call(x, y))
    if library.biject_rows(ctypes.byref(first.call(x, y)), then):
        raise MemoryError("There is no memory for the codes of a product's inputs.")
    return y.view(*x_TD.shape[:-1], y.shape[-1]).to(x_TD.dtype)


def to_int8(layers: nn.Module) -> int:
    """Put 8-bit codes in the place of the linears of layers; how many.

    Args:
        layers: On the CPU; their other parameters stay as they are.

    Raises:
        ConfigError: There is no linear, or no compiler on this machine.
    """
    if rows_library() is None:
        raise ConfigError(
            "quantization='int8' of an encoder compiles a few lines of C where it runs: install a C compiler "
            "(cc, gcc or clang), or set CC."
        )
    found = [(name, module) for name, module in layers.named_modules() if type(module) in _LINEARS]
    if not found:
        raise ConfigError("quantization='int8': the model has no linear that could be held in 8 bits.")
    for name, module in found:
        weight = module.get_parameter("weight")
        rows = weight.t() if isinstance(module, TransposedLinear) else weight
        parent, _, last = name.rpartition(".")
        setattr(layers.get_submodule(parent), last, Int8Linear(rows, module._parameters["bias"]))
    for name, module in list(layers.named_modules()):
        if type(module) is MLP and module.config.act == "gelu" and module.config.gate == "none":
            parent, _, last = name.rpartition(".")
            assert isinstance(module.up_proj, Int8Linear)
            assert isinstance(module.down_proj, Int8Linear)
            setattr(layers.get_submodule(parent), last, Int8MLP(module.up_proj, module.down_proj))
    return len(found)


def held_in_int8(model: nn.Module) -> bool:
    """Whether linears of a model are codes, which stay on the CPU and are not saved."""
    return any(isinstance(module, Int8Linear) for module in model.modules())


_LINEARS = (Linear, AddedBiasLinear, TransposedLinear)


def _up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
