"""Self-attention over a layout, by the kernel that the table gives or, where the weights are asked for,
written out.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biject.config.model import ModelConfig
from biject.nn.kernels import Attend, grouped, merge_heads, split_heads
from biject.nn.layout import Layout
from biject.nn.modules import Linear
from biject.nn.traces import emit


class SelfAttention(nn.Module):
    """Multi-head self-attention with separate projections.

    Shape: (T, D) → (T, D), or the rows that the layout wants.
    Source: transformers 5.23, modeling_bert.py (BertSelfAttention), integrations/sdpa_attention.py.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.scale = config.head_dim**-0.5
        self.dropout = config.attention_dropout
        self.q_proj = Linear(config.hidden_size, config.hidden_size)
        self.k_proj = Linear(config.hidden_size, config.hidden_size)
        self.v_proj = Linear(config.hidden_size, config.hidden_size)
        self.o_proj = Linear(config.hidden_size, config.hidden_size)

    def forward(self, x_TD: Tensor, layout: Layout, *, weights: bool, attend: Attend | None = None) -> Tensor:
        """`weights`: compute the attention weights explicitly and emit them as `attentions`."""
        q_TD, k_TD, v_TD = self.q_proj(x_TD), self.k_proj(x_TD), self.v_proj(x_TD)
        if weights:
            context_TD = self._written_out(q_TD, k_TD, v_TD, layout)
        else:
            dropout = self.dropout if self.training else 0.0
            context_TD = (attend or grouped)(q_TD, k_TD, v_TD, layout, self.num_heads, self.scale, dropout)
        out: Tensor = self.o_proj(context_TD)
        return out

    def _written_out(self, q_TD: Tensor, k_TD: Tensor, v_TD: Tensor, layout: Layout) -> Tensor:
        """HF's `eager_attention_forward`: scores, additive mask, softmax, dropout, values."""
        contexts = []
        for group in layout.groups:
            q_BHLE = split_heads(group.query_grid(q_TD), self.num_heads)
            k_BHLE = split_heads(group.key_grid(k_TD), self.num_heads)
            v_BHLE = split_heads(group.key_grid(v_TD), self.num_heads)
            scores_BHLL = torch.matmul(q_BHLE, k_BHLE.transpose(2, 3)) * self.scale
            mask = group.key_mask()
            if mask is not None:
                zero = torch.zeros((), dtype=scores_BHLL.dtype, device=scores_BHLL.device)
                scores_BHLL = scores_BHLL + torch.where(mask, zero, torch.finfo(scores_BHLL.dtype).min)
            probs_BHLL = F.dropout(F.softmax(scores_BHLL, dim=-1), p=self.dropout, training=self.training)
            emit("attentions", probs_BHLL)
            contexts.append(merge_heads(torch.matmul(probs_BHLL, v_BHLE)))
        return layout.ungroup(contexts)
