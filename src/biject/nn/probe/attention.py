"""Does attention in groups give each query the bits that it has in HF's grid?

Asked of the very kernels of the table (`nn/kernels.py`), by running both ways on a few odd batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from biject.nn.probe import store

Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""(queries, keys, values (B, H, L, E), mask or None) → (B, H, L, E)."""

_HEADS = 2
_BATCHES = (
    (23, (3, 16, 20)),
    (37, (5, 16, 33, 36)),
    (101, (1, 17, 50, 82, 99)),
    (200, (60, 130, 176, 180)),
    (420, (100, 177, 250, 400)),
    (600, (31, 300, 513, 560)),
    (1100, (90, 500, 900)),
)
"""(columns, tokens of the texts beside one that fills them)."""
_QUERIES = 16


def attention_holds(
    operation: str, keys: Callable[[int, int], int], head_dim: int, dtype: torch.dtype
) -> bool:
    """Whether the kernel for `operation` with key counts by `keys` has equal bits in every trial."""
    question = f"{operation} {keys.__name__} {head_dim} {str(dtype).removeprefix('torch.')}"
    known = store.recall(question)
    if known is None:
        attend = written_out if operation == "written-out attention" else fused
        with store.plainly():
            known = all(_trials(attend, keys, head_dim, dtype, causal=operation == "causal attention"))
        store.remember(question, known)
    return bool(known)


def fused(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Scaled dot product by torch."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def written_out(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Batched products, a filled mask and softmax."""
    q_GLE, k_GLE, v_GLE = (x.reshape(-1, *x.shape[2:]) for x in (q, k, v))
    scores = torch.bmm(q_GLE, k_GLE.transpose(-1, -2) / q.shape[-1] ** 0.5).view(*q.shape[:3], k.shape[2])
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(q.dtype).min)
    probs = scores.softmax(-1).view(-1, q.shape[2], k.shape[2])
    return torch.bmm(probs, v_GLE).view(q.shape)


def _trials(
    attend: Attend, keys: Callable[[int, int], int], head_dim: int, dtype: torch.dtype, *, causal: bool
) -> Iterator[bool]:
    draw = torch.Generator().manual_seed(0)
    for length, others in _BATCHES:
        tokens = torch.tensor([length, *others])
        q, k, v = (
            torch.randn(len(tokens), length, _HEADS, head_dim, generator=draw).to(dtype).transpose(1, 2)
            for _ in range(3)
        )
        real_BL = torch.arange(length) < tokens[:, None]
        mask_BLL = real_BL[:, None].expand(-1, length, -1)
        mask_BLL = mask_BLL.tril() if causal else mask_BLL
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
                mask = None if key == count and not causal else few
                upto = min(count, query)
                yield torch.equal(attend(few_q, few_k, few_v, mask)[0, :, :upto], whole[text, :, :upto])
