"""Attention over a layout's buckets as the module does it, for tests of layouts and kernels."""

from __future__ import annotations

from torch import Tensor

from biject.config.layers import AttentionSpec
from biject.nn.attend import attend, merge_heads, split_heads
from biject.nn.kernels import BucketAttend
from biject.nn.layout import Layout
from biject.nn.masks import bucket_mask


def spec_of(
    heads: int, width: int, *, scale: float = 0.5, groups: int | None = None, **changes: object
) -> AttentionSpec:
    return AttentionSpec(
        num_heads=heads,
        num_key_value_heads=groups or heads,
        head_dim=width // heads,
        scale=scale,
        **changes,  # type: ignore[arg-type]
    )


def grouped(
    q_TD: Tensor,
    k_TD: Tensor,
    v_TD: Tensor,
    layout: Layout,
    spec: AttentionSpec,
    dropout: float = 0.0,
    kernel: BucketAttend = attend,
) -> Tensor:
    """Rows in, rows out."""
    contexts = []
    for bucket in layout.buckets:
        q, k, v = (
            split_heads(rows, heads).transpose(1, 2)
            for rows, heads in (
                (bucket.query_grid(q_TD), spec.num_heads),
                (bucket.key_grid(k_TD), spec.num_key_value_heads),
                (bucket.key_grid(v_TD), spec.num_key_value_heads),
            )
        )
        mask = bucket_mask(spec.mask_kind, bucket, device=q.device, always=spec.causal)
        contexts.append(merge_heads(kernel(q, k, v, mask=mask, spec=spec, dropout=dropout)))
    return layout.unbucket(contexts)
