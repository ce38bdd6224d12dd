"""Looking rows of a table up, with a gradient whose memory is used again from step to step.

The gradient of a table is as large as the table and almost all zeros. Where optimizers drop gradients after a
step, as they do by default, its memory goes back to the system and comes again page by page: 22 ms a step for
MiniLM's 47 MB, of which setting zeros takes 5. Bits are torch's.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LARGE = 1 << 22
"""Numbers of a table from which on this pays: 16 MiB."""

_kept: WeakKeyDictionary[nn.Module, Tensor] = WeakKeyDictionary()


def takes(weight: Tensor) -> bool:
    """A large table on the CPU in float32 (torch sums half precision otherwise), trained in the plain way."""
    return (
        type(weight) is nn.Parameter
        and weight.dtype is torch.float32
        and weight.requires_grad
        and torch.is_grad_enabled()
        and weight.device.type == "cpu"
        and weight.numel() >= LARGE
        and weight.is_contiguous()
    )


def rows_of(module: nn.Embedding, ids: Tensor) -> Tensor:
    """The rows of `ids` in the module's table."""
    found: Tensor = _Lookup.apply(module.weight, ids, module)  # type: ignore[no-untyped-call]
    return found


def forget(module: nn.Module) -> None:
    """Give the memory back, if there is any."""
    if _kept:
        _kept.pop(module, None)


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, module: nn.Embedding) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.module = module
        return F.embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (ids,), module = ctx.saved_tensors, ctx.module
        padding = -1 if module.padding_idx is None else module.padding_idx
        if torch.is_grad_enabled():  # the gradient itself is differentiated
            plain = torch.ops.aten.embedding_dense_backward
            return plain(grad, ids, module.num_embeddings, padding, False), None, None
        table = _zeros(module, grad.dtype)
        table.index_add_(0, ids.reshape(-1), grad.reshape(-1, grad.shape[-1]))
        if padding >= 0:
            table[padding].zero_()
        return table, None, None


def _zeros(module: nn.Embedding, dtype: torch.dtype) -> Tensor:
    """As large as the table; in the memory of the last gradient, where nothing else holds that.

    That memory is taken out while it is looked at, in one step: of several threads that go backward through
    one module, a single one finds it.
    """
    shape, kept = module.weight.shape, _kept.pop(module, None)
    if kept is None or kept.dtype != dtype or kept.shape != shape or _shared(kept):
        kept = torch.empty(shape, dtype=dtype)
    # A tensor of its own: one that two hold is copied where gradients are kept.
    table: Tensor = torch.empty(0, dtype=dtype)
    table.set_(kept.untyped_storage(), 0, shape)  # type: ignore[call-overload]
    _kept[module] = kept  # from here on it is held twice, which others see
    return table.zero_()


def _shared(tensor: Tensor) -> bool:
    return torch._C._storage_Use_Count(tensor.untyped_storage()._cdata) > 2  # the tensor, and who asks
