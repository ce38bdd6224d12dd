"""How many rows have to be computed so that each has the bits that it has in HF's grid.

Consulted once a batch: a packed batch is exact where every linear gives its rows the bits that they have
among all of the grid's rows, and norms and activations do not mind their neighbours. What there is comes from
the modules themselves (`nn/rowwise.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from biject.nn.activations import activation
from biject.nn.probe import attention_holds, columns_hold, rowwise_holds, same_bits_from, store
from biject.nn.rowwise import RowOp

__all__ = ["attention_holds", "columns_hold", "min_rows"]


def min_rows(ops: frozenset[RowOp] | None, count: int, total: int, dtype: torch.dtype) -> int | None:
    """How many rows to compute, `count` or more, so that each has the bits it has among `total`.

    None where only all of them do, or where a module does not say what it computes.
    """
    if ops is None or count >= total:
        return None
    return _min_rows(ops, count, total, dtype, store.key(), (rowwise_holds, same_bits_from))


@lru_cache(maxsize=4096)
def _min_rows(
    ops: frozenset[RowOp], count: int, total: int, dtype: torch.dtype, key: str, probes: tuple[Any, Any]
) -> int | None:
    """The same under the conditions that `key` stands for, with the answers of `probes`."""
    rowwise, same_bits = probes
    for op in sorted(ops):
        if op.kind == "linear":
            needed = same_bits(op.inputs, op.outputs, total, dtype, op.name)
            if needed is None:
                return None
            count = max(count, needed)
        else:
            name = op.name if op.kind == "activation" else f"{op.name} norm"
            if not rowwise(name, _FUNCTIONS[op.kind](op.name), op.inputs, dtype):
                return None
    return count if count < total else None


def _root_mean_square(x: Tensor) -> Tensor:
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype)


def _layer_norm(x: Tensor) -> Tensor:
    return torch.layer_norm(x, (x.shape[-1],))


_NORMS = {"layer": _layer_norm, "rms": _root_mean_square}
_FUNCTIONS: dict[str, Callable[[str], Callable[[Tensor], Tensor]]] = {
    "activation": activation,
    "norm": _NORMS.__getitem__,
}
