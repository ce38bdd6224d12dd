"""Activations by rows.c, alone or with the product of a gate: one pass where torch takes up to nine."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from biject.nn.native.build import rows_library
from biject.nn.native.structures import Numbers

KINDS = {
    "gelu": 0, "gelu_python": 0,
    "gelu_new": 1, "gelu_accurate": 1, "gelu_fast": 1, "gelu_pytorch_tanh": 1, "gelu_python_tanh": 1,
    "silu": 2, "swish": 2,
}  # fmt: skip
"""Names of activations in the order of rows.c."""


def activate(name: str, x_TD: Tensor, times_TD: Tensor | None = None) -> Tensor | None:
    """An activation of rows, times `times_TD` where given, within the rounding of the dtype; None where it
    has to be computed otherwise: gradients could be asked for, it is another activation, device or dtype,
    or there is no C compiler.
    """
    if name not in KINDS or x_TD.device.type != "cpu" or x_TD.dtype not in (torch.float32, torch.bfloat16):
        return None
    library = rows_library() if torch.is_inference_mode_enabled() else None
    if library is None or x_TD.dim() != 2 or (times_TD is not None and times_TD.dtype is not x_TD.dtype):
        return None
    x, times = (t if t is None or t.stride(1) == 1 else t.contiguous() for t in (x_TD, times_TD))
    assert x is not None
    y = torch.empty(x.shape, dtype=x.dtype)
    call = Numbers(
        x.data_ptr(), None if times is None else times.data_ptr(), y.data_ptr(),
        *x.shape, x.stride(0), 0 if times is None else times.stride(0),
        KINDS[name], x.dtype is torch.bfloat16, torch.get_num_threads(),
    )  # fmt: skip
    library.biject_activate(ctypes.byref(call))
    return y
