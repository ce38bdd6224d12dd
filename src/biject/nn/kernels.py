"""One table of kernels: operation × device × numerics → implementation. Nothing is chosen by family.

`exact` kernels give each real row HF's bits where the probe (`nn/probe`) found that the machine does;
`fast` kernels have the bound that stands beside them. docs/packing.md says how each was measured. Windows,
grouped heads and dropout are the spec's, and every kernel of an operation takes them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from biject.config.layers import AttentionSpec
from biject.nn.attend import attend, attend_math
from biject.nn.attend_dropped import DrawsPlan, attend_dropped
from biject.nn.layout import Layout, Packed
from biject.nn.native import rows as native
from biject.nn.packing import ColumnRule

Numerics = Literal["exact", "fast"]
Operation = Literal["attention", "causal attention", "written-out attention", "attention by steps"]
"""`written-out`: with relative positions; `by steps`: as HF's `eager` computes it (`attend_written_out`)."""
RowsAttend = Callable[[Tensor, Tensor, Tensor, Layout, AttentionSpec], Tensor]
"""(queries (T, H, E), keys and values (T, G, E) of all rows, layout, spec) → (T, H·E)."""
RowsFit = Callable[[Layout, Tensor, AttentionSpec, float], bool]
"""(layout, queries (T, D), spec, dropout) → whether all rows can be taken at once."""
DroppedAttend = Callable[[Tensor, Tensor, Tensor, DrawsPlan, AttentionSpec, float], Tensor]
"""The same with dropout: (…, plan, spec, dropout) → (T, H·E)."""

BLOCK = 512
"""Keys that torch's CPU kernel takes at a time."""
SHORT = 176
"""Up to so many keys a sum over them has the same bits however many masked ones follow."""

PIECE = 192
"""Keys of a piece, where sums over more of them are cut: see `first_piece`."""


def keys_by_block(tokens: int, length: int) -> int:
    """Key columns for torch's fused kernel: blocks over a longer text are as wide as in HF's grid."""
    return min(length, _up(tokens, 16) if tokens <= SHORT else _up(tokens, BLOCK))


def keys_or_all(tokens: int, length: int) -> int:
    """Key columns for products written out: the sum over a longer text is cut where HF's is."""
    return min(length, _up(tokens, 16) if tokens <= SHORT else length)


def first_piece(length: int) -> int:
    """Keys that MKL's sums over `length` keys begin with, as seen on an AMD EPYC (docs/packing.md): all up to
    `PIECE`, then half of them, from twice as many on `PIECE`. A shorter text's sum never leaves that piece.
    """
    return length if length <= PIECE else min(PIECE, length // 2)


def keys_by_piece(tokens: int, length: int) -> int:
    """As `keys_by_block`, where sums are cut into smaller pieces."""
    return min(length, _up(tokens, 16) if tokens <= first_piece(length) else _up(tokens, BLOCK))


def keys_by_piece_or_all(tokens: int, length: int) -> int:
    """As `keys_or_all`, where sums are cut into smaller pieces."""
    return min(length, _up(tokens, 16) if tokens <= first_piece(length) else length)


def whole_grid(tokens: int, length: int) -> int:
    """All columns: where no smaller number is known to be exact."""
    return length


def keys_to_16(tokens: int, length: int) -> int:
    """Key columns where bits are not requested."""
    return min(length, _up(tokens, 16))


def _up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


class BucketAttend(Protocol):
    """Attention of one bucket: (B, H, L, E), (B, G, S, E) twice, mask (B, 1, L, S) or None → (B, H, L, E)."""

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, /, *, mask: Tensor | None, spec: AttentionSpec, dropout: float
    ) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One implementation."""

    operation: Operation
    keys: ColumnRule
    other_keys: tuple[ColumnRule, ...] = ()
    """Which leave out less, for machines where the probe finds other bits with `keys`."""
    bound: str
    """What is known of its difference from HF's bits."""
    attend: BucketAttend = attend
    attend_rows: RowsAttend | None = None
    """All texts in one call, without buckets, where `takes_rows` says so."""
    rows_fit: RowsFit | None = None
    attend_dropped: DroppedAttend | None = None
    """With dropout by the plan's own draws, where `takes_dropped` says so."""

    def takes_rows(self, layout: Layout, q_TD: Tensor, spec: AttentionSpec, dropout: float) -> bool:
        """Whether there is an `attend_rows`, and it can compute this."""
        return self.rows_fit is not None and self.rows_fit(layout, q_TD, spec, dropout)


def _varlen_fits(layout: Layout, q_TD: Tensor, spec: AttentionSpec, dropout: float) -> bool:
    """FlashAttention knows half precision and no dropout here."""
    return (
        isinstance(layout, Packed)
        and layout.cu_seqlens is not None
        and dropout == 0
        and q_TD.dtype in (torch.float16, torch.bfloat16)
    )


def varlen(q_THE: Tensor, k_TGE: Tensor, v_TGE: Tensor, layout: Layout, spec: AttentionSpec) -> Tensor:
    """FlashAttention over texts of any length in one call (torch.nn.attention.varlen)."""
    from torch.nn.attention.varlen import varlen_attn

    assert isinstance(layout, Packed)
    assert layout.cu_seqlens is not None
    ends, longest = layout.cu_seqlens, layout.longest
    out = varlen_attn(
        q_THE, k_TGE, v_TGE, ends, ends, longest, longest,
        scale=spec.scale, window_size=spec.sees, enable_gqa=q_THE.shape[1] != k_TGE.shape[1],
    )  # fmt: skip
    assert isinstance(out, Tensor)
    return out.reshape(q_THE.shape[0], -1)


_SAME = "the bits of HF's padded run in float32, where the probe holds"
_ROUNDING = "the rounding of the dtype: sums run in another order"


def _rows(operation: Operation) -> dict[tuple[Operation, str, Numerics], Kernel]:
    """Torch's fused attention on every device."""
    return {
        (operation, "cpu", "exact"): Kernel(
            operation=operation, keys=keys_by_block, other_keys=(keys_by_piece,), bound=_SAME
        ),
        (operation, "cpu", "fast"): Kernel(
            operation=operation,
            keys=keys_to_16,
            bound=_ROUNDING,
            attend_rows=native.attend_rows,
            rows_fit=native.fits,
            attend_dropped=attend_dropped,
        ),
        (operation, "cuda", "exact"): Kernel(
            operation=operation, keys=keys_or_all, bound=_ROUNDING, attend=attend_math
        ),
        (operation, "cuda", "fast"): Kernel(
            operation=operation,
            keys=keys_to_16,
            bound=_ROUNDING,
            attend_rows=varlen,
            rows_fit=_varlen_fits,
        ),
    }


def _products(operation: Operation) -> dict[tuple[Operation, str, Numerics], Kernel]:
    """Products that the attention module computes one by one."""
    return {
        (operation, "cpu", "exact"): Kernel(
            operation=operation, keys=keys_or_all, other_keys=(keys_by_piece_or_all,), bound=_SAME
        ),
        (operation, "cpu", "fast"): Kernel(operation=operation, keys=keys_to_16, bound=_ROUNDING),
        (operation, "cuda", "exact"): Kernel(operation=operation, keys=keys_or_all, bound=_ROUNDING),
        (operation, "cuda", "fast"): Kernel(operation=operation, keys=keys_to_16, bound=_ROUNDING),
    }


TABLE: dict[tuple[Operation, str, Numerics], Kernel] = {
    **_rows("attention"),
    **_rows("causal attention"),
    **_products("written-out attention"),
    **_products("attention by steps"),
}


def kernel(operation: Operation, device: torch.device, numerics: Numerics) -> Kernel:
    """The implementation of an operation; devices that the table does not name take the CPU's."""
    found = TABLE.get((operation, device.type, numerics))
    return found if found is not None else TABLE[operation, "cpu", numerics]
