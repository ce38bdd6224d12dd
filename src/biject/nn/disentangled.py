"""Disentangled attention: content and relative position score separately (He et al. 2021,
arXiv:2006.03654, eq. 4).

Source of every formula and of the order of operations: transformers 5.23,
models/deberta_v2/modeling_deberta_v2.py. Letters beside the package's: G = B·H (batch and heads
flattened), P rows of the table of relative positions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biject.config.model import ModelConfig, RelativeConfig
from biject.nn.activations import activation
from biject.nn.layout import Padded
from biject.nn.modules import Conv1d, Embedding, LayerNorm, Linear
from biject.nn.traces import emit


class RelativeTable(nn.Module):
    """The table of relative positions, shared by all layers, and the distances of a batch.

    Shape: () → (P, D), P = 2 · span.
    """

    def __init__(self, config: ModelConfig, relative: RelativeConfig) -> None:
        super().__init__()
        self.relative = relative
        self.table = Embedding(2 * relative.span, config.hidden_size)
        self.norm = LayerNorm(config.hidden_size, eps=config.norm_eps) if relative.norm else nn.Identity()

    def forward(self) -> Tensor:
        out: Tensor = self.norm(self.table.weight)
        return out


def log_bucket(distance: Tensor, buckets: int, max_distance: int) -> Tensor:
    """Distances beyond half the buckets share buckets of logarithmic width (appendix A.5 of the
    paper).
    """
    mid = buckets // 2
    near = (distance < mid) & (distance > -mid)
    reach = torch.where(near, torch.tensor(mid - 1).type_as(distance), torch.abs(distance))
    far = (
        torch.ceil(torch.log(reach / mid) / torch.log(torch.tensor((max_distance - 1) / mid)) * (mid - 1))
        + mid
    )
    return torch.where(reach <= mid, distance.type_as(far), far * torch.sign(distance))


def relative_distances(length: int, relative: RelativeConfig, device: torch.device) -> Tensor:
    """Query position minus key position, bucketed where the config says so: (1, L, L), integers."""
    ids = torch.arange(length, dtype=torch.long, device=device)
    distance_LL = ids[:, None] - ids[None, :]
    if relative.buckets > 0 and relative.max_distance > 0:
        distance_LL = log_bucket(distance_LL, relative.buckets, relative.max_distance)
    return distance_LL.to(torch.long).unsqueeze(0)


class DisentangledAttention(nn.Module):
    """Self-attention with content-to-position and position-to-content terms.

    Shape: (T, D) → (T, D).
    """

    def __init__(self, config: ModelConfig, relative: RelativeConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.relative = relative
        self.num_heads = config.num_attention_heads
        self.dropout = config.attention_dropout
        self.factor = 1 + relative.content_to_position + relative.position_to_content
        self.q_proj = Linear(width, width)
        self.k_proj = Linear(width, width)
        self.v_proj = Linear(width, width)
        own = relative.enabled and not relative.share_keys
        if own and relative.content_to_position:
            self.pos_k_proj = Linear(width, width)
        if own and relative.position_to_content:
            self.pos_q_proj = Linear(width, width)
        self.o_proj = Linear(width, width)

    def forward(
        self,
        x_TD: Tensor,
        layout: Padded,
        *,
        weights: bool,
        table_PD: Tensor | None,
        distances: Tensor | None,
    ) -> Tensor:
        """`table_PD` and `distances` (1, L, L) are None where the model has no relative table."""
        q_GLE = self._split(layout.grid(self.q_proj(x_TD)))
        k_GLE = self._split(layout.grid(self.k_proj(x_TD)))
        v_GLE = self._split(layout.grid(self.v_proj(x_TD)))
        scale = self._scale(q_GLE)
        scores_GLL = torch.bmm(q_GLE, k_GLE.transpose(-1, -2) / scale)
        if table_PD is not None and distances is not None:
            table_PD = F.dropout(table_PD, p=self.relative.dropout, training=self.training)
            scores_GLL = scores_GLL + self._position_scores(q_GLE, k_GLE, table_PD, distances)
        scores_BHLL = scores_GLL.view(layout.batch, self.num_heads, layout.length, layout.length)
        mask = layout.pair_mask()
        if mask is not None:
            scores_BHLL = scores_BHLL.masked_fill(~mask, torch.finfo(q_GLE.dtype).min)
        probs_BHLL = F.dropout(F.softmax(scores_BHLL, dim=-1), p=self.dropout, training=self.training)
        if weights:
            emit("attentions", probs_BHLL)
        context_GLE = torch.bmm(probs_BHLL.view(-1, layout.length, layout.length), v_GLE)
        context_BHLE = context_GLE.view(layout.batch, self.num_heads, layout.length, -1)
        context_BLD = context_BHLE.permute(0, 2, 1, 3).contiguous().view(layout.batch, layout.length, -1)
        out: Tensor = self.o_proj(layout.rows(context_BLD))
        return out

    def _split(self, x_BLD: Tensor) -> Tensor:
        """(B, L, D) → (G, L, E), contiguous."""
        x_BLHE = x_BLD.view(*x_BLD.shape[:-1], self.num_heads, -1)
        return x_BLHE.permute(0, 2, 1, 3).contiguous().view(-1, x_BLD.shape[1], x_BLHE.shape[-1])

    def _scale(self, x_GLE: Tensor) -> Tensor:
        """√(E · number of score terms), a 0-d CPU tensor as in HF (division by it is what fixes the
        bits).
        """
        return torch.sqrt(torch.tensor(x_GLE.size(-1), dtype=torch.float) * self.factor).to(dtype=x_GLE.dtype)

    def _position_scores(
        self, q_GLE: Tensor, k_GLE: Tensor, table_PD: Tensor, distances: Tensor
    ) -> Tensor | int:
        """The sum of the terms: (G, L, L); 0 if there are none."""
        relative, length = self.relative, q_GLE.shape[1]
        table_1PD = table_PD[0 : relative.span * 2].unsqueeze(0)
        repeats = q_GLE.shape[0] // self.num_heads
        last = relative.span * 2 - 1
        scores: Tensor | int = 0
        index = (q_GLE.shape[0], length, length)
        if relative.content_to_position:
            k_proj = self.k_proj if relative.share_keys else self.pos_k_proj
            pos_k_GPE = self._split(k_proj(table_1PD)).repeat(repeats, 1, 1)
        if relative.position_to_content:
            q_proj = self.q_proj if relative.share_keys else self.pos_q_proj
            pos_q_GPE = self._split(q_proj(table_1PD)).repeat(repeats, 1, 1)
        if relative.content_to_position:
            by_row = torch.clamp(distances + relative.span, 0, last).expand(index)
            c2p_GLL = torch.gather(torch.bmm(q_GLE, pos_k_GPE.transpose(-1, -2)), dim=-1, index=by_row)
            scores = scores + c2p_GLL / self._scale(q_GLE)
        if relative.position_to_content:
            by_column = torch.clamp(-distances + relative.span, 0, last).expand(index)
            p2c_GLL = torch.gather(torch.bmm(k_GLE, pos_q_GPE.transpose(-1, -2)), dim=-1, index=by_column)
            scores = scores + p2c_GLL.transpose(-1, -2) / self._scale(q_GLE)
        return scores


class ConvLayer(nn.Module):
    """A convolution over the embeddings, added to the first layer's output (ConvLayer of DeBERTa-v2
    xlarge).

    Shape: (T, D), (T, D) → (T, D).
    """

    def __init__(self, config: ModelConfig, kernel_size: int, groups: int, act: str) -> None:
        super().__init__()
        width = config.hidden_size
        self.conv = Conv1d(width, kernel_size, groups=groups)
        self.norm = LayerNorm(width, eps=config.norm_eps)
        self.act = activation(act)
        self.dropout = config.embedding_dropout

    def forward(self, embedded_TD: Tensor, x_TD: Tensor, layout: Padded) -> Tensor:
        """`embedded_TD`: the input of the first layer; `x_TD`: its output."""
        grid_BDL = layout.grid(embedded_TD).permute(0, 2, 1).contiguous()
        out_BLD = self.conv(grid_BDL).permute(0, 2, 1).contiguous()
        mask_BL = layout.mask_BL
        if mask_BL is not None:
            out_BLD = out_BLD.masked_fill(~mask_BL.unsqueeze(-1), 0)
        out_BLD = self.act(F.dropout(out_BLD, p=self.dropout, training=self.training))
        out_TD: Tensor = self.norm(x_TD + layout.rows(out_BLD))
        return out_TD if mask_BL is None else out_TD * layout.rows(mask_BL.unsqueeze(-1)).to(out_TD.dtype)
