"""Does attention in groups give each query the bits that it has in HF's grid?

Asked of the very kernels of the table (`nn/kernels.py`), by running both ways on a few odd batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from biject.config.layers import AttentionSpec, MaskKind
from biject.nn.attend import attend_written_out
from biject.nn.masks import attention_mask
from biject.nn.probe import store
from biject.nn.relative import PositionHeads, attend_relative

Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""(queries, keys, values (B, H, L, E), mask or None) → (B, H, L, E)."""

_HEADS = 2
_BATCHES = (
    (23, (3, 16, 20)),
    (37, (5, 16, 33, 36)),
    (101, (1, 17, 50, 82, 99)),
    (193, (90, 96, 100, 192)),
    (200, (60, 130, 176, 180)),
    (300, (96, 112, 150, 160, 290)),
    (384, (188, 192, 210)),
    (420, (100, 177, 192, 250, 400)),
    (600, (31, 300, 513, 560)),
    (1100, (90, 500, 900)),
)
"""(columns, tokens of the texts beside one that fills them)."""
_QUERIES = 16


def attention_holds(
    operation: str,
    keys: Callable[[int, int], int],
    head_dim: int,
    dtype: torch.dtype,
    *,
    window: int | None = None,
    softcap: float | None = None,
) -> bool:
    """Whether the kernel for `operation` with key counts by `keys` has equal bits in every trial."""
    question = f"{operation} {keys.__name__} {head_dim} {str(dtype).removeprefix('torch.')}"
    question += "" if window is None else f" window {window}"
    question += "" if softcap is None else f" softcap {softcap}"
    known = store.recall(question)
    if known is None:
        attends = {"written-out attention": written_out, "attention by steps": by_steps(softcap)}
        attend, plain = attends.get(operation, fused), ("attention", "written-out attention")
        kind = MaskKind(causal=operation not in plain, window=window, mask_queries=False)
        with store.plainly():
            known = all(_trials(attend, keys, head_dim, dtype, kind))
        store.remember(question, known)
    return bool(known)


def fused(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Scaled dot product by torch."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def written_out(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Batched products, a filled mask and softmax."""
    context, _ = attend_relative(
        q, k, v, mask=mask, positions=PositionHeads(), distances=None, span=0, terms=1, dropout=0.0
    )
    return context


def by_steps(softcap: float | None) -> Attend:
    """Products, caps, added masks and a softmax in float32, as HF's `eager` has them."""

    def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        width = q.shape[-1]
        spec = AttentionSpec(
            num_heads=_HEADS, num_key_value_heads=_HEADS, head_dim=width, scale=width**-0.5,
            softmax="float32", softcap=softcap,
        )  # fmt: skip
        return attend_written_out(q, k, v, mask=mask, spec=spec, dropout=0.0)[0]

    return attend


def _trials(
    attend: Attend, keys: Callable[[int, int], int], head_dim: int, dtype: torch.dtype, kind: MaskKind
) -> Iterator[bool]:
    rng = torch.Generator().manual_seed(0)
    drawn = torch.float64 if dtype == torch.float64 else torch.float32  # see `linear.draw_numbers`
    for length, others in _BATCHES:
        tokens = torch.tensor([length, *others])
        q, k, v = (
            torch.randn(len(tokens), length, _HEADS, head_dim, generator=rng, dtype=drawn)
            .to(dtype)
            .transpose(1, 2)
            for _ in range(3)
        )
        if dtype != torch.float32:
            k, v = _cancelling(k, v)
        real_BL = torch.arange(length) < tokens[:, None]
        mask_BLL = _mask(kind, real_BL)
        whole = attend(q, k, v, mask_BLL[:, None])
        for text, count in enumerate(tokens.tolist()):
            if count == length:
                continue
            key = keys(count, length)
            for query in {min(length, -(-count // _QUERIES) * _QUERIES), min(length, _QUERIES)}:
                few_q, few_k, few_v = (
                    # In memory as a group's rows are.
                    x[text : text + 1, :, :n].transpose(1, 2).contiguous().transpose(1, 2)
                    for x, n in ((q, query), (k, key), (v, key))
                )
                few = mask_BLL[text, None, None, :query, :key]
                plain = not kind.causal and (kind.window is None or key < kind.window)
                mask = None if key == count and plain else few
                upto = min(count, query)
                yield torch.equal(attend(few_q, few_k, few_v, mask)[0, :, :upto], whole[text, :, :upto])


def _cancelling(k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Keys in equal pairs whose values cancel: what is left is rounding, which shows every order of a sum.

    Of ordinary numbers, half dtypes show it in one result of hundreds. A pair is eight columns apart, within
    blocks of 16; (B, H, L, E) each.
    """
    k, v = k.clone(), v.clone()
    whole = k.shape[2] // 16 * 16
    for each, sign in ((k, 1), (v, -1)):
        blocks = each[:, :, :whole].reshape(*each.shape[:2], -1, 2, 8, each.shape[3])
        blocks[:, :, :, 1] = sign * blocks[:, :, :, 0]
        each[:, :, :whole] = blocks.flatten(2, 4)
    return k, v


def _mask(kind: MaskKind, real_BL: Tensor) -> Tensor:
    """(B, L, L) of HF's grid."""
    batch, length = real_BL.shape
    mask = attention_mask(
        kind, real_BL, batch=batch, queries=length, keys=length, device=real_BL.device, always=True
    )
    assert mask is not None
    return mask[:, 0]
