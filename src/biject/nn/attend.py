"""Scores, softmax, values: the one place where queries, keys and values of heads meet, given a mask.

Heads come as (B, H, L, E) queries and (B, G, S, E) keys and values, G dividing H. Source:
transformers 5.23, integrations/sdpa_attention.py, masking_utils.py, and `eager_attention_forward` of
modeling_llama.py and modeling_gpt2.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_GQA_WIDTH = 256
"""Heads up to this width share keys inside the kernel."""


def attend(
    q_BHLE: Tensor, k_BGSE: Tensor, v_BGSE: Tensor, *, mask: Tensor | None, scale: float, dropout: float
) -> Tensor:
    """Causal attention by torch's scaled dot product.

    Args:
        q_BHLE: Queries; with fewer than S of them, `mask` says which tokens they are.
        k_BGSE: Keys.
        v_BGSE: Values.
        mask: Boolean, (B, 1, L, S), True where a query may look; None where query i may look at keys 0 … i,
            or a single query at all.
        scale: What scores are multiplied by.
        dropout: Rate for the weights; 0 outside of training.

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
        scale=scale,
        is_causal=mask is None and length > 1,
        enable_gqa=share_inside,
    )
    return context.reshape(context.shape[0], -1, length, v_BGSE.shape[-1])


def attend_written_out(
    q_BHLE: Tensor,
    k_BGSE: Tensor,
    v_BGSE: Tensor,
    *,
    mask: Tensor,
    scale: float,
    dropout: float,
    softmax: torch.dtype | None,
    upcast: bool,
) -> tuple[Tensor, Tensor]:
    """The same, step by step, as HF's `eager` does it.

    Args:
        q_BHLE: Queries.
        k_BGSE: Keys.
        v_BGSE: Values.
        mask: Boolean, (B, 1, L, S).
        scale: What scores are multiplied by.
        dropout: Rate for the weights; 0 outside of training.
        softmax: Its dtype; None for the scores' own.
        upcast: Compute the scores in float32 and scale them inside the product
            (`_upcast_and_reordered_attn`, after Megatron-LM).

    Returns:
        Context (B, H, L, E) and weights (B, H, L, S).
    """
    shared = q_BHLE.shape[1] // k_BGSE.shape[1]
    k_BHSE, v_BHSE = repeated(k_BGSE, shared), repeated(v_BGSE, shared)
    zero = torch.zeros((), dtype=q_BHLE.dtype, device=q_BHLE.device)
    added = torch.where(mask, zero, torch.finfo(q_BHLE.dtype).min)
    if upcast:
        scores_BHLS = _scores_in_float32(q_BHLE, k_BHSE, scale)
    else:
        scores_BHLS = torch.matmul(q_BHLE, k_BHSE.transpose(2, 3)) * scale
    weights_BHLS = F.softmax(scores_BHLS + added, dim=-1, dtype=softmax).to(v_BHSE.dtype)
    weights_BHLS = F.dropout(weights_BHLS, p=dropout, training=dropout > 0)
    return torch.matmul(weights_BHLS, v_BHSE), weights_BHLS


def _scores_in_float32(q_BHLE: Tensor, k_BHSE: Tensor, scale: float) -> Tensor:
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


def causal_mask(
    real_BS: Tensor | None,
    *,
    batch: int,
    queries: int,
    keys: int,
    window: int | None,
    device: torch.device,
    past: int = 0,
    first_key: int = 0,
    always: bool = False,
) -> Tensor | None:
    """Which keys a query may look at: (B, 1, L, S), or None where `attend` needs no mask to know.

    Args:
        real_BS: True where a token of the whole text is real; None if all are.
        batch: B.
        queries: L, the tokens of this call.
        keys: S, those and the remembered ones before them.
        window: How many tokens a token sees, itself included; None for all.
        device: Where the mask is made.
        past: Position of the first query's column among all columns.
        first_key: The same of the first key, where older ones were dropped.
        always: Never None, as for attention that is written out.
    """
    narrow = window is not None and keys >= window
    if real_BS is None and not narrow and not always and (queries == 1 or keys == queries):
        return None
    q_L1 = torch.arange(queries, device=device)[:, None] + past
    k_1S = torch.arange(keys, device=device)[None, :] + first_key
    seen_LS = k_1S <= q_L1
    if window is not None:
        seen_LS = (k_1S > q_L1 - window) & seen_LS
    if real_BS is None:
        return seen_LS[None, None].expand(batch, 1, queries, keys)
    return seen_LS[None, None] & real_BS[:, None, None, first_key : first_key + keys]


def packed_mask(positions_BL: Tensor, window: int | None) -> Tensor | None:
    """The mask of rows that hold several texts, told from where their positions do not count up by one:
    (B, 1, L, L), True where a query may look; None if each row holds one text.

    Source: masking_utils.py, `find_packed_sequence_indices` and `packed_sequence_compatibility_function`.
    """
    steps_BL = torch.diff(positions_BL, prepend=positions_BL[:, :1] - 1, dim=-1)
    text_BL = (steps_BL != 1).cumsum(-1)
    if not bool(text_BL[:, -1].any()):
        return None
    q_BL1, k_B1L = positions_BL[:, :, None], positions_BL[:, None, :]
    seen_BLL = (k_B1L <= q_BL1) & (text_BL[:, :, None] == text_BL[:, None, :])
    if window is not None:
        seen_BLL = seen_BLL & (k_B1L > q_BL1 - window)
    return seen_BLL[:, None]
