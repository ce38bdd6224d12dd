"""GLM's attention. Source: transformers 5.23, models/glm/modeling_glm.py (GlmAttention)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from biject.nn.attend import attend, attend_written_out, merge_heads
from biject.nn.kernels import Operation
from biject.nn.layout import AttentionBucket
from biject.nn.modules import Linear
from biject.nn.plan import BatchPlan
from biject.nn.registry import builds
from biject.nn.rowwise import RowOp
from biject.nn.traces import emit
from biject_glm.config import InterleavedConfig


@builds(InterleavedConfig)
class InterleavedAttention(nn.Module):
    """Shape: (T, D) → (T, D)."""

    operation: Operation = "causal attention"

    def __init__(self, config: InterleavedConfig) -> None:
        super().__init__()
        self.spec, self.rope, width = config.spec, config.rope, config.hidden_size
        wide, narrow = (
            self.spec.num_heads * self.spec.head_dim,
            self.spec.num_key_value_heads * self.spec.head_dim,
        )
        self.q_proj = Linear(width, wide, bias=config.qkv_bias)
        self.k_proj = Linear(width, narrow, bias=config.qkv_bias)
        self.v_proj = Linear(width, narrow, bias=config.qkv_bias)
        self.o_proj = Linear(wide, width, bias=False)

    @property
    def dropout_rate(self) -> float:
        return self.spec.dropout

    def row_ops(self) -> tuple[RowOp, ...]:
        """Only those of the linears: packed batches keep HF's bits."""
        return ()

    def forward(self, x_TD: Tensor, plan: BatchPlan) -> Tensor:
        rows = self.q_proj(x_TD), self.k_proj(x_TD), self.v_proj(x_TD)
        masks = plan.masks[self.spec.mask_kind]
        contexts = [
            self._bucket(rows, bucket, mask, plan)
            for bucket, mask in zip(plan.layout.buckets, masks, strict=True)
        ]
        out: Tensor = self.o_proj(plan.layout.unbucket(contexts))
        return out

    def _bucket(
        self,
        rows: tuple[Tensor, Tensor, Tensor],
        bucket: AttentionBucket,
        mask: Tensor | None,
        plan: BatchPlan,
    ) -> Tensor:
        cos, sin = (
            part[:, : part.shape[-1] // 2].repeat_interleave(2, dim=-1) for part in plan.rope[self.rope]
        )
        q, k, v = (
            take(x).unflatten(-1, (-1, self.spec.head_dim)).transpose(1, 2)
            for take, x in zip((bucket.query_grid, bucket.key_grid, bucket.key_grid), rows, strict=True)
        )
        q = _rotated(q, bucket.query_grid(cos), bucket.query_grid(sin))
        k = _rotated(k, bucket.key_grid(cos), bucket.key_grid(sin))
        if plan.cache is not None:
            k, v = plan.cache.update(self, k, v)
        dropout = self.spec.dropout if self.training else 0.0
        if not plan.request.attentions:
            return merge_heads(attend(q, k, v, mask=mask, spec=self.spec, dropout=dropout))
        context, weights = attend_written_out(q, k, v, mask=mask, spec=self.spec, dropout=dropout)
        emit("attentions", weights)
        return merge_heads(context)


def _rotated(x_BHLE: Tensor, cos_BLR: Tensor, sin_BLR: Tensor) -> Tensor:
    cos, sin = cos_BLR.unsqueeze(1), sin_BLR.unsqueeze(1)
    turned, kept = x_BHLE[..., : cos.shape[-1]], x_BHLE[..., cos.shape[-1] :]
    crossed = torch.stack((-turned[..., 1::2], turned[..., 0::2]), dim=-1).flatten(-2)
    return torch.cat([turned * cos + crossed * sin, kept], dim=-1)
