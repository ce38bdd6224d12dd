"""Attention over packed rows by rows.c: no buckets, no filling up, no copies of rows.

Sums run in another order than torch's, in float32 also where rows are bfloat16.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from biject.config.layers import AttentionSpec
from biject.nn.layout import Layout, Packed, Padded
from biject.nn.native.build import rows_library
from biject.nn.native.structures import Attend

_LANES = 16
_DTYPES = (torch.float32, torch.bfloat16)


def fits(layout: Layout, q_TD: Tensor, spec: AttentionSpec, dropout: float) -> bool:
    """Whether `attend_rows` can compute this: inference mode, no mask but the texts' ends.

    Where gradients could be asked for, and under a compiler, torch's kernels compute all of it.

    Args:
        layout: Whole texts.
        q_TD: Queries of all rows.
        spec: Heads of a multiple of 16 numbers, no cap.
        dropout: None.
    """
    return (
        not torch.compiler.is_compiling()
        and dropout == 0
        and not spec.by_steps
        and spec.softcap is None
        and spec.head_dim % _LANES == 0
        and q_TD.dtype in _DTYPES
        and q_TD.device.type == "cpu"
        and _ends(layout) is not None
        and torch.is_inference_mode_enabled()
        and rows_library() is not None
    )


def attend_rows(q_THE: Tensor, k_TGE: Tensor, v_TGE: Tensor, layout: Layout, spec: AttentionSpec) -> Tensor:
    """Texts of any length in one call: (T, H, E), (T, G, E) twice → (T, H·E), in the values' dtype.

    Queries and keys may have become float32 since `fits` looked at them: autocast's are, after positions.

    Raises:
        MemoryError: There is none for the scores.
    """
    wide = torch.float32 if torch.float32 in (q_THE.dtype, k_TGE.dtype, v_TGE.dtype) else v_TGE.dtype
    q, k, v = (
        x if x.stride()[1:] == (spec.head_dim, 1) else x.contiguous()
        for x in (y.to(wide) for y in (q_THE, k_TGE, v_TGE))
    )  # fmt: skip
    assert wide in _DTYPES
    out = torch.empty(q.shape[0], spec.num_heads * spec.head_dim, dtype=q.dtype)
    ends = _ends(layout)
    library = rows_library()
    assert ends is not None
    assert library is not None
    call = Attend(
        q.data_ptr(), k.data_ptr(), v.data_ptr(), out.data_ptr(), ends.data_ptr(),
        q.stride(0), k.stride(0), v.stride(0), out.stride(0),
        len(ends) - 1, spec.num_heads, spec.num_key_value_heads, spec.head_dim, *spec.sees,
        q.dtype is torch.bfloat16, layout_longest(layout), torch.get_num_threads(), spec.scale,
    )  # fmt: skip
    if library.biject_attend(ctypes.byref(call)):
        raise MemoryError("There is no memory for the scores of attention.")
    return out.to(v_TGE.dtype)


def layout_longest(layout: Layout) -> int:
    """Columns of the longest text."""
    return layout.longest if isinstance(layout, Packed) else layout.length


def _ends(layout: Layout) -> Tensor | None:
    """Where each text begins and ends among the rows; None where some of them are hidden."""
    if isinstance(layout, Packed):
        return layout.cu_seqlens
    assert isinstance(layout, Padded)
    if layout.mask_BL is not None:
        return None
    return torch.arange(0, (layout.batch + 1) * layout.length, layout.length, dtype=torch.int32)
