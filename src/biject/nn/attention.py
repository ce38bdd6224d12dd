"""Self-attention over a layout, by torch's scaled dot product or, where the weights are asked for,
written out.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biject.config.model import ModelConfig
from biject.nn.layout import Padded
from biject.nn.modules import Linear
from biject.nn.traces import emit


class SelfAttention(nn.Module):
    """Multi-head self-attention with separate projections.

    Shape: (T, D) → (T, D).
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

    def forward(self, x_TD: Tensor, layout: Padded, *, weights: bool) -> Tensor:
        """`weights`: compute the attention weights explicitly and emit them as `attentions`."""
        q_BHLE = layout.heads(self.q_proj(x_TD), self.num_heads)
        k_BHLE = layout.heads(self.k_proj(x_TD), self.num_heads)
        v_BHLE = layout.heads(self.v_proj(x_TD), self.num_heads)
        dropout = self.dropout if self.training else 0.0
        if weights:
            context_BHLE = self._written_out(q_BHLE, k_BHLE, v_BHLE, layout.key_mask())
        else:
            context_BHLE = F.scaled_dot_product_attention(
                q_BHLE, k_BHLE, v_BHLE, attn_mask=layout.key_mask(), dropout_p=dropout, scale=self.scale
            )
        context_BLD = context_BHLE.transpose(1, 2).contiguous().view(layout.batch, layout.length, -1)
        out: Tensor = self.o_proj(layout.rows(context_BLD))
        return out

    def _written_out(self, q_BHLE: Tensor, k_BHLE: Tensor, v_BHLE: Tensor, mask: Tensor | None) -> Tensor:
        """HF's `eager_attention_forward`: scores, additive mask, softmax, dropout, values."""
        scores_BHLL = torch.matmul(q_BHLE, k_BHLE.transpose(2, 3)) * self.scale
        if mask is not None:
            zero = torch.zeros((), dtype=scores_BHLL.dtype, device=scores_BHLL.device)
            scores_BHLL = scores_BHLL + torch.where(mask, zero, torch.finfo(scores_BHLL.dtype).min)
        probs_BHLL = F.dropout(F.softmax(scores_BHLL, dim=-1), p=self.dropout, training=self.training)
        emit("attentions", probs_BHLL)
        return torch.matmul(probs_BHLL, v_BHLE)
