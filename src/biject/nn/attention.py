"""Self-attention: projections, norms and positions of heads, a kernel, the way out; one module for all.

Source: transformers 5.23, modeling_bert.py (BertSelfAttention), modeling_llama.py (LlamaAttention),
modeling_qwen3.py, modeling_gpt2.py, modeling_modernbert.py, modeling_deberta_v2.py.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from biject.config.layers import AttentionConfig, AttentionSpec
from biject.config.rope import RopeConfig
from biject.nn.attend import attend_written_out, merge_heads, split_heads
from biject.nn.attend_dropped import takes_dropped
from biject.nn.compiled import attend_opaque
from biject.nn.kernels import Operation
from biject.nn.layout import AttentionBucket, Packed
from biject.nn.modules import make_linear, make_norm, settle
from biject.nn.plan import BatchPlan
from biject.nn.relative import PositionHeads, RelativeScores
from biject.nn.rotary import rotated
from biject.nn.rowwise import RowOp
from biject.nn.traces import emit

_NO_POSITIONS = PositionHeads()
_ABSENT = dict.fromkeys(("qkv_proj", "q_proj", "k_proj", "v_proj", "relative", "q_norm", "k_norm"))


class Attention(nn.Module):
    """Multi-head self-attention; the config says which parts there are.

    Shape: (T, D) → (T, D), or the rows that the layout needs.
    """

    spec: AttentionSpec
    rope: RopeConfig | None
    widths: tuple[int, int, int]
    qkv_proj: nn.Module | None
    q_proj: nn.Module | None
    k_proj: nn.Module | None
    v_proj: nn.Module | None
    relative: RelativeScores | None
    q_norm: nn.Module | None
    k_norm: nn.Module | None
    norms_whole: bool

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__()
        spec, width = config.spec, config.hidden_size
        wide, narrow = spec.num_heads * spec.head_dim, spec.num_key_value_heads * spec.head_dim
        whole = config.qk_norm_over == "all heads"
        settle(self, spec=spec, rope=config.rope, widths=(wide, narrow, narrow), norms_whole=whole, **_ABSENT)
        project = partial(make_linear, width, bias=config.qkv_bias, transposed=config.transposed)
        if config.fused:
            self.qkv_proj = project(wide + 2 * narrow)
        else:
            self.q_proj, self.k_proj, self.v_proj = map(project, self.widths)
        if config.relative is not None:
            self.relative = RelativeScores(config, config.relative)
        self.o_proj = make_linear(wide, width, bias=config.out_bias, transposed=config.transposed)
        if config.qk_norm is not None:
            self.q_norm = make_norm(config.qk_norm, wide if whole else spec.head_dim)
            self.k_norm = make_norm(config.qk_norm, narrow if whole else spec.head_dim)

    @property
    def operation(self) -> Operation:
        """The row of the kernels' table."""
        if self.relative is not None:
            return "written-out attention"
        if self.spec.written_out:
            return "attention by steps"
        return "causal attention" if self.spec.causal else "attention"

    @property
    def dropout_rate(self) -> float:
        """Of the weights, in training."""
        return self.spec.dropout

    def row_ops(self) -> tuple[RowOp, ...]:
        """None of its own: heads are no rows, and the planner asks about the kernel."""
        return ()

    def forward(self, x_TD: Tensor, plan: BatchPlan) -> Tensor:
        q_TD, k_TD, v_TD = self._project(x_TD)
        if self.norms_whole:
            assert self.q_norm is not None
            assert self.k_norm is not None
            q_TD, k_TD = self.q_norm(q_TD), self.k_norm(k_TD)
        dropout = self.spec.dropout if self.training else 0.0
        positions = _NO_POSITIONS
        if self.relative is not None:
            assert self.q_proj is not None
            assert self.k_proj is not None
            positions = self.relative.positions(
                plan.relative_table, plan.near_positions, self.q_proj, self.k_proj
            )
        kernel = plan.kernels[self.operation]
        opaque = isinstance(plan.layout, Packed) and torch.compiler.is_compiling()
        weighed = plan.request.attentions or self.relative is not None  # somebody asks for the weights
        drops = kernel.attend_dropped is not None and takes_dropped(plan, self.spec, q_TD, dropout)
        looks_back = plan.joined or (plan.cache is not None and not plan.own_keys)
        by_rows = drops or (not looks_back and kernel.takes_rows(plan.layout, q_TD, self.spec, dropout))
        if opaque or (not weighed and by_rows):
            context_TD = self._by_rows(q_TD, k_TD, v_TD, plan, positions, opaque=opaque, dropout=dropout)
        else:
            layout, masks = plan.layout, plan.masks[self.spec.mask_kind]
            grids = zip(layout.query_grids(q_TD), layout.key_grids(k_TD), layout.key_grids(v_TD), strict=True)
            contexts = [
                self._bucket(grid, bucket, mask, plan, positions, dropout)
                for grid, bucket, mask in zip(grids, layout.buckets, masks, strict=True)
            ]
            context_TD = layout.unbucket(contexts)
        out: Tensor = self.o_proj(context_TD)
        return out

    def _project(self, x_TD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.qkv_proj is not None:
            q_TD, k_TD, v_TD = self.qkv_proj(x_TD).split(self.widths, dim=-1)
            return q_TD, k_TD, v_TD
        q_proj, k_proj, v_proj = self.q_proj, self.k_proj, self.v_proj
        assert q_proj is not None and k_proj is not None and v_proj is not None  # noqa: PT018
        return q_proj(x_TD), k_proj(x_TD), v_proj(x_TD)

    def _bucket(
        self,
        qkv: tuple[Tensor, Tensor, Tensor],
        bucket: AttentionBucket,
        mask: Tensor | None,
        plan: BatchPlan,
        positions: PositionHeads,
        dropout: float,
    ) -> Tensor:
        """One bucket's context, (B, L, H·E), of its queries, keys and values, (B, L or S, D)."""
        q_BLD, k_BSD, v_BSD = qkv
        at_q = at_k = None
        if self.rope is not None:
            at_q = tuple(map(bucket.query_grid, plan.rope[self.rope]))
            at_k = tuple(map(bucket.key_grid, plan.rope[self.rope]))
        q_BHLE = self._heads(q_BLD, self.q_norm, at_q)
        k_BGSE = self._heads(k_BSD, self.k_norm, at_k)
        v_BGSE = self._heads(v_BSD, None, None)
        if plan.cache is not None:
            k_BGSE, v_BGSE = plan.cache.update(self, k_BGSE, v_BGSE)
        elif plan.contiguous_keys and self.spec.causal:
            k_BGSE, v_BGSE = k_BGSE.contiguous(), v_BGSE.contiguous()
        weights = None
        if self.relative is not None:
            context_BHLE, weights = self.relative.attend(
                q_BHLE, k_BGSE, v_BGSE,
                mask=mask, positions=positions, distances=plan.distances, dropout=dropout,
            )  # fmt: skip
        elif plan.request.attentions or self.spec.by_steps:
            context_BHLE, weights = attend_written_out(
                q_BHLE, k_BGSE, v_BGSE, mask=mask, spec=self.spec, dropout=dropout
            )
        else:
            attend = plan.kernels[self.operation].attend
            context_BHLE = attend(q_BHLE, k_BGSE, v_BGSE, mask=mask, spec=self.spec, dropout=dropout)
        if weights is not None and plan.request.attentions:
            emit("attentions", weights)
        return merge_heads(context_BHLE)

    def _heads(self, x_BLD: Tensor, norm: nn.Module | None, rope: tuple[Tensor, ...] | None) -> Tensor:
        """Heads, normalised and rotated by their positions: (B, L, H·E) → (B, H, L, E).

        In HF's order and shapes: the sum that is a norm's gradient depends on them.
        """
        x_BLHE = x_BLD.view(*x_BLD.shape[:-1], -1, self.spec.head_dim)
        x_BHLE = (x_BLHE if norm is None or self.norms_whole else norm(x_BLHE)).transpose(1, 2)
        if rope is None:
            return x_BHLE
        assert self.rope is not None
        return rotated(x_BHLE, *rope, float32=self.rope.float32, narrow=self.rope.float32_angles)

    def _by_rows(
        self,
        q_TD: Tensor,
        k_TD: Tensor,
        v_TD: Tensor,
        plan: BatchPlan,
        positions: PositionHeads,
        *,
        opaque: bool,
        dropout: float,
    ) -> Tensor:
        """The same for kernels that take all rows at once: norms and positions row by row, (T, H·E)."""
        q_THE, k_TGE = self._row_heads(q_TD, self.q_norm, plan), self._row_heads(k_TD, self.k_norm, plan)
        v_TGE = split_heads(v_TD, v_TD.shape[-1] // self.spec.head_dim)
        if opaque:
            return attend_opaque(
                q_THE, k_TGE, v_TGE, plan, self.spec, self.relative, positions, dropout=dropout
            )
        if plan.cache is not None:
            grids = (plan.layout.grid(x.flatten(1)) for x in (k_TGE, v_TGE))
            plan.cache.update(self, *(split_heads(x, k_TGE.shape[1]).transpose(1, 2) for x in grids))
        kernel = plan.kernels[self.operation]
        if dropout:
            assert kernel.attend_dropped is not None
            return kernel.attend_dropped(q_THE, k_TGE, v_TGE, plan, self.spec, dropout)
        assert kernel.attend_rows is not None
        return kernel.attend_rows(q_THE, k_TGE, v_TGE, plan.layout, self.spec)

    def _row_heads(self, x_TD: Tensor, norm: nn.Module | None, plan: BatchPlan) -> Tensor:
        """Heads of rows, normalised and rotated: (T, H·E) → (T, H, E)."""
        x_THE = split_heads(x_TD, x_TD.shape[-1] // self.spec.head_dim)
        x_THE = x_THE if norm is None or self.norms_whole else norm(x_THE)
        if self.rope is None:
            return x_THE
        rope = plan.rope[self.rope]
        return rotated(x_THE, *rope, float32=self.rope.float32, narrow=self.rope.float32_angles)
