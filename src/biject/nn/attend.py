"""Scores, softmax, values: the one place where queries, keys and values of heads meet, given a mask.

Heads come as (B, H, L, E) queries and (B, G, S, E) keys and values, G dividing H. Source:
transformers 5.23, integrations/sdpa_attention.py, and `eager_attention_forward` of modeling_bert.py,
modeling_llama.py and modeling_gpt2.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from biject.config.layers import AttentionSpec

_GQA_WIDTH = 256
"""Heads up to this width share keys inside the kernel."""


def attend(
    q_BHLE: Tensor,
    k_BGSE: Tensor,
    v_BGSE: Tensor,
    *,
    mask: Tensor | None,
    spec: AttentionSpec,
    dropout: float,
) -> Tensor:
    """Attention by torch's scaled dot product.

    Args:
        q_BHLE: queries; with fewer than S of them, `mask` says which tokens they are.
        k_BGSE: keys.
        v_BGSE: values.
        mask: boolean, (B, 1, L, S), True where a query may look; None: where the spec lets it.
        spec: scale, and whether it is causal: then query i sees keys 0 … i, a single query all.
        dropout: rate for the weights; 0 outside of training.

    Returns:
        (B, H, L, E).
    """
    length, shared = q_BHLE.shape[2], q_BHLE.shape[1] // k_BGSE.shape[1]
    share_inside = False
    if shared > 1:
        if mask is None and k_BGSE.shape[-1] == v_BGSE.shape[-1] <= _GQA_WIDTH:
            share_inside = True
        elif length == 1:  # the queries of a group become the rows of one
            q_BHLE = q_BHLE.reshape(q_BHLE.shape[0], -1, shared, q_BHLE.shape[-1])
        else:
            k_BGSE, v_BGSE = repeated(k_BGSE, shared), repeated(v_BGSE, shared)
    context = F.scaled_dot_product_attention(
        q_BHLE,
        k_BGSE,
        v_BGSE,
        attn_mask=mask,
        dropout_p=dropout,
        scale=spec.scale,
        is_causal=spec.causal and mask is None and length > 1,
        enable_gqa=share_inside,
    )
    return context.reshape(context.shape[0], -1, length, v_BGSE.shape[-1])


def attend_math(
    q_BHLE: Tensor,
    k_BGSE: Tensor,
    v_BGSE: Tensor,
    *,
    mask: Tensor | None,
    spec: AttentionSpec,
    dropout: float,
) -> Tensor:
    """The same by torch's unfused kernel."""
    with sdpa_kernel(SDPBackend.MATH):
        return attend(q_BHLE, k_BGSE, v_BGSE, mask=mask, spec=spec, dropout=dropout)


def attend_written_out(
    q_BHLE: Tensor,
    k_BGSE: Tensor,
    v_BGSE: Tensor,
    *,
    mask: Tensor | None,
    spec: AttentionSpec,
    dropout: float,
) -> tuple[Tensor, Tensor]:
    """The same, step by step, as HF's `eager` does it: context (B, H, L, E) and weights (B, H, L, S)."""
    shared = q_BHLE.shape[1] // k_BGSE.shape[1]
    k_BHSE, v_BHSE = repeated(k_BGSE, shared), repeated(v_BGSE, shared)
    if spec.upcast:
        scores_BHLS = _scores_in_float32(q_BHLE, k_BHSE, spec.scale)
    else:
        scores_BHLS = torch.matmul(q_BHLE, k_BHSE.transpose(2, 3)) * spec.scale
    if spec.softcap is not None:
        scores_BHLS = capped(scores_BHLS, spec.softcap)
    if mask is not None:
        zero = torch.zeros((), dtype=q_BHLE.dtype, device=q_BHLE.device)
        scores_BHLS = scores_BHLS + torch.where(mask, zero, torch.finfo(q_BHLE.dtype).min)
    dtype = torch.float32 if spec.softmax == "float32" else None
    weights_BHLS = attention_weights(scores_BHLS, softmax=dtype, dtype=v_BHSE.dtype, dropout=dropout)
    return torch.matmul(weights_BHLS, v_BHSE), weights_BHLS


def capped(x: Tensor, limit: float) -> Tensor:
    """Within ± `limit`, in HF's order (transformers 5.23, modeling_gemma2.py)."""
    return torch.tanh(x / limit) * limit


def attention_weights(
    scores_BHLS: Tensor, *, softmax: torch.dtype | None = None, dtype: torch.dtype, dropout: float
) -> Tensor:
    """Softmax over the keys, in a dtype of its own if given, then cast to `dtype`, then dropout."""
    weights_BHLS = F.softmax(scores_BHLS, dim=-1, dtype=softmax).to(dtype)
    return F.dropout(weights_BHLS, p=dropout, training=dropout > 0)


def _scores_in_float32(q_BHLE: Tensor, k_BHSE: Tensor, scale: float) -> Tensor:
    """Scores after Megatron-LM (`_upcast_and_reordered_attn`): in float32, scaled inside the product."""
    batch, heads, length, width = q_BHLE.shape
    keys = k_BHSE.shape[2]
    q, k = q_BHLE.reshape(-1, length, width), k_BHSE.transpose(-1, -2).reshape(-1, width, keys)
    empty = torch.empty(batch * heads, length, keys, dtype=torch.float32, device=q.device)
    with torch.autocast(q.device.type, enabled=False):
        scores = torch.baddbmm(empty, q.float(), k.float(), beta=0, alpha=scale)
    return scores.reshape(batch, heads, length, keys)


def repeated(x_BGSE: Tensor, times: int) -> Tensor:
    """Every head `times` times, side by side: (B, G, S, E) → (B, G · times, S, E)."""
    if times == 1:
        return x_BGSE
    batch, groups, keys, width = x_BGSE.shape
    wide = x_BGSE[:, :, None].expand(batch, groups, times, keys, width)
    return wide.reshape(batch, groups * times, keys, width)


def split_heads(x_BLD: Tensor, num_heads: int) -> Tensor:
    """(B, L, H·E) → (B, L, H, E), a view."""
    return x_BLD.view(*x_BLD.shape[:-1], num_heads, -1)


def merge_heads(x_BHLE: Tensor) -> Tensor:
    """(B, H, L, E) → (B, L, H·E)."""
    return x_BHLE.transpose(1, 2).contiguous().view(x_BHLE.shape[0], x_BHLE.shape[2], -1)
