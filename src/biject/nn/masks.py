"""Which keys a query may see: boolean masks (B, 1, L, S), True where it may, None where nothing is hidden.

Source: transformers 5.23, masking_utils.py. Masks are left out where HF leaves them out, since the bits of
attention depend on that.
"""

from __future__ import annotations

import torch
from torch import Tensor

from biject.config.layers import MaskKind
from biject.nn.layout import AttentionBucket


def attention_mask(
    kind: MaskKind,
    real_BS: Tensor | None,
    *,
    batch: int,
    queries: int,
    keys: int,
    device: torch.device,
    past: int = 0,
    first_key: int = 0,
    always: bool = False,
) -> Tensor | None:
    """The mask of one call.

    Args:
        kind: what the layer may see.
        real_BS: True where a token of the whole text is real; None if all are.
        batch: B.
        queries: L, the tokens of this call.
        keys: S, those and the cached ones before them.
        device: where the mask is made.
        past: position of the first query's column among all columns.
        first_key: the same of the first key, where older ones were dropped.
        always: a causal mask is never None, as for attention that is written out.
    """
    narrow = kind.window is not None and keys >= kind.window
    if not kind.causal and not narrow:
        return _padding_mask(kind, real_BS, queries=queries, keys=keys)
    if real_BS is None and not narrow and not always and (queries == 1 or keys == queries):
        return None
    q_L1 = torch.arange(queries, device=device)[:, None] + past
    k_1S = torch.arange(keys, device=device)[None, :] + first_key
    seen_LS = _seen(kind, q_L1, k_1S)
    if real_BS is None:
        return seen_LS[None, None].expand(batch, 1, queries, keys)
    return seen_LS[None, None] & real_BS[:, None, None, first_key : first_key + keys]


def _seen(kind: MaskKind, q: Tensor, k: Tensor) -> Tensor:
    """True where positions `k` are visible from `q`."""
    if not kind.causal:
        assert kind.window is not None
        return (q - k).abs() <= kind.window
    seen = k <= q
    return seen if kind.window is None else (k > q - kind.window) & seen


def _padding_mask(kind: MaskKind, real_BK: Tensor | None, *, queries: int, keys: int) -> Tensor | None:
    if real_BK is None:
        return None
    if kind.mask_queries:
        return real_BK[:, None, :queries, None] & real_BK[:, None, None, :]
    return real_BK[:, None, None, :].expand(real_BK.shape[0], 1, queries, keys)


def bucket_mask(
    kind: MaskKind, bucket: AttentionBucket, *, device: torch.device, always: bool
) -> Tensor | None:
    """The mask of one bucket of texts."""
    return attention_mask(
        kind,
        bucket.real_BK,
        batch=bucket.batch,
        queries=bucket.queries,
        keys=bucket.keys,
        device=device,
        always=always,
    )


def joined_texts_mask(kind: MaskKind, positions_BL: Tensor) -> Tensor | None:
    """The mask of rows that hold several texts, told from where their positions do not count up by one:
    (B, 1, L, L); None if each row holds one text.

    Source: masking_utils.py, `find_packed_sequence_indices` and `packed_sequence_compatibility_function`.
    """
    steps_BL = torch.diff(positions_BL, prepend=positions_BL[:, :1] - 1, dim=-1)
    text_BL = (steps_BL != 1).cumsum(-1)
    if not bool(text_BL[:, -1].any()):
        return None
    q_BL1, k_B1L = positions_BL[:, :, None], positions_BL[:, None, :]
    seen_BLL = _seen(kind, q_BL1, k_B1L) & (text_BL[:, :, None] == text_BL[:, None, :])
    return seen_BLL[:, None]
