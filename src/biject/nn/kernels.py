"""One table of kernels: operation × device × numerics → implementation. Nothing is chosen by family.

`exact` kernels give each real row HF's bits where the probe (`nn/probe`) found that the machine does;
`fast` kernels have the bound that stands beside them. docs/packing.md says how each was measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from biject.nn.layout import Layout, Packed
from biject.nn.packing import ColumnRule

Numerics = Literal["exact", "fast"]
Operation = Literal["attention", "causal attention", "written-out attention"]
Attend = Callable[[Tensor, Tensor, Tensor, Layout, int, float, float], Tensor]
"""(queries, keys, values of all rows (T, H·E), layout, heads, scale, dropout) → (T, H·E)."""

BLOCK = 512
"""Keys that torch's CPU kernel takes at a time."""
SHORT = 176
"""Up to so many keys a sum over them has the same bits however many masked ones follow."""


def keys_by_block(tokens: int, length: int) -> int:
    """Key columns for torch's fused kernel: blocks over a longer text are as wide as in HF's grid."""
    return min(length, _up(tokens, 16) if tokens <= SHORT else _up(tokens, BLOCK))


def keys_or_all(tokens: int, length: int) -> int:
    """Key columns for products written out: the sum over a longer text is cut where HF's is."""
    return min(length, _up(tokens, 16) if tokens <= SHORT else length)


def whole_grid(tokens: int, length: int) -> int:
    """All columns: where no smaller number is known to be exact."""
    return length


def keys_to_16(tokens: int, length: int) -> int:
    """Key columns where bits are not asked for."""
    return min(length, _up(tokens, 16))


def _up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One implementation."""

    operation: Operation
    keys: ColumnRule
    bound: str
    """What is known of its difference from HF's bits."""
    attend: Attend | None = None
    """None: the module writes the operation out itself."""


def grouped(
    q_TD: Tensor, k_TD: Tensor, v_TD: Tensor, layout: Layout, num_heads: int, scale: float, dropout: float
) -> Tensor:
    """Scaled dot product by torch, one call a group."""
    contexts = []
    for group in layout.groups:
        context_BHQE = F.scaled_dot_product_attention(
            split_heads(group.query_grid(q_TD), num_heads),
            split_heads(group.key_grid(k_TD), num_heads),
            split_heads(group.key_grid(v_TD), num_heads),
            attn_mask=group.key_mask(),
            dropout_p=dropout,
            scale=scale,
        )
        contexts.append(merge_heads(context_BHQE))
    return layout.ungroup(contexts)


def grouped_math(
    q_TD: Tensor, k_TD: Tensor, v_TD: Tensor, layout: Layout, num_heads: int, scale: float, dropout: float
) -> Tensor:
    """The same by torch's unfused kernel."""
    with sdpa_kernel(SDPBackend.MATH):
        return grouped(q_TD, k_TD, v_TD, layout, num_heads, scale, dropout)


def varlen(
    q_TD: Tensor, k_TD: Tensor, v_TD: Tensor, layout: Layout, num_heads: int, scale: float, dropout: float
) -> Tensor:
    """FlashAttention over texts of any length in one call; what it cannot do is done in groups."""
    if not isinstance(layout, Packed) or layout.cu_seqlens is None:
        return grouped(q_TD, k_TD, v_TD, layout, num_heads, scale, dropout)
    if dropout > 0 or q_TD.dtype not in (torch.float16, torch.bfloat16):
        return grouped(q_TD, k_TD, v_TD, layout, num_heads, scale, dropout)
    from torch.nn.attention.varlen import varlen_attn

    ends, longest = layout.cu_seqlens, layout.longest
    q_THE, k_THE, v_THE = (x.view(x.shape[0], num_heads, -1) for x in (q_TD, k_TD, v_TD))
    out = varlen_attn(q_THE, k_THE, v_THE, ends, ends, longest, longest, scale=scale)
    assert isinstance(out, Tensor)
    return out.reshape(q_TD.shape)


def split_heads(x_BLD: Tensor, num_heads: int) -> Tensor:
    """(B, L, H·E) → (B, H, L, E), a view."""
    return x_BLD.view(x_BLD.shape[0], x_BLD.shape[1], num_heads, -1).transpose(1, 2)


def merge_heads(x_BHLE: Tensor) -> Tensor:
    """(B, H, L, E) → (B, L, H·E)."""
    return x_BHLE.transpose(1, 2).contiguous().view(x_BHLE.shape[0], x_BHLE.shape[2], -1)


_SAME = "the bits of HF's padded run in float32, where the probe holds"
_ROUNDING = "the rounding of the dtype: sums run in another order"
TABLE: dict[tuple[Operation, str, Numerics], Kernel] = {
    ("attention", "cpu", "exact"): Kernel(
        operation="attention", keys=keys_by_block, bound=_SAME, attend=grouped
    ),
    ("attention", "cpu", "fast"): Kernel(
        operation="attention", keys=keys_to_16, bound=_ROUNDING, attend=grouped
    ),
    ("attention", "cuda", "exact"): Kernel(
        operation="attention", keys=keys_or_all, bound=_ROUNDING, attend=grouped_math
    ),
    ("attention", "cuda", "fast"): Kernel(
        operation="attention", keys=keys_to_16, bound=_ROUNDING, attend=varlen
    ),
    ("causal attention", "cpu", "exact"): Kernel(
        operation="causal attention", keys=keys_by_block, bound=_SAME
    ),
    ("causal attention", "cpu", "fast"): Kernel(
        operation="causal attention", keys=keys_to_16, bound=_ROUNDING
    ),
    ("written-out attention", "cpu", "exact"): Kernel(
        operation="written-out attention", keys=keys_or_all, bound=_SAME
    ),
    ("written-out attention", "cpu", "fast"): Kernel(
        operation="written-out attention", keys=keys_to_16, bound=_ROUNDING
    ),
}


def kernel(operation: Operation, device: torch.device, numerics: Numerics) -> Kernel:
    """The implementation of an operation; devices that the table does not name take the CPU's."""
    found = TABLE.get((operation, device.type, numerics))
    return found if found is not None else TABLE[operation, "cpu", numerics]
