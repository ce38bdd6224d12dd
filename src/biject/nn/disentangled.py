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
from biject.nn.kernels import merge_heads
from biject.nn.layout import Layout
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
        layout: Layout,
        *,
        weights: bool,
        table_PD: Tensor | None,
        distances: Tensor | None,
    ) -> Tensor:
        """`table_PD` and `distances` (1, L, L) are None where the model has no relative table."""
        q_TD, k_TD, v_TD = self.q_proj(x_TD), self.k_proj(x_TD), self.v_proj(x_TD)
        positions = self._positions(table_PD)
        contexts = []
        for group in layout.groups:
            q_GQE = self._split(group.query_grid(q_TD))
            k_GKE = self._split(group.key_grid(k_TD))
            scores_GQK = torch.bmm(q_GQE, k_GKE.transpose(-1, -2) / self._scale(q_GQE))
            if distances is not None:
                scores_GQK = scores_GQK + self._position_scores(q_GQE, k_GKE, positions, distances)
            scores_BHQK = scores_GQK.view(group.batch, self.num_heads, group.queries, group.keys)
            mask = group.pair_mask()
            if mask is not None:
                scores_BHQK = scores_BHQK.masked_fill(~mask, torch.finfo(q_GQE.dtype).min)
            probs_BHQK = F.dropout(F.softmax(scores_BHQK, dim=-1), p=self.dropout, training=self.training)
            if weights:
                emit("attentions", probs_BHQK)
            v_GKE = self._split(group.key_grid(v_TD))
            context_GQE = torch.bmm(probs_BHQK.view(-1, group.queries, group.keys), v_GKE)
            contexts.append(merge_heads(context_GQE.view(group.batch, self.num_heads, group.queries, -1)))
        out: Tensor = self.o_proj(layout.ungroup(contexts))
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

    def _positions(self, table_PD: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Keys and queries of the relative positions, (H, P, E) each, where the model scores with them."""
        if table_PD is None:
            return None, None
        relative = self.relative
        table_PD = F.dropout(table_PD, p=relative.dropout, training=self.training)
        table_1PD = table_PD[0 : relative.span * 2].unsqueeze(0)
        keys = queries = None
        if relative.content_to_position:
            keys = self._split((self.k_proj if relative.share_keys else self.pos_k_proj)(table_1PD))
        if relative.position_to_content:
            queries = self._split((self.q_proj if relative.share_keys else self.pos_q_proj)(table_1PD))
        return keys, queries

    def _position_scores(
        self,
        q_GQE: Tensor,
        k_GKE: Tensor,
        positions: tuple[Tensor | None, Tensor | None],
        distances: Tensor,
    ) -> Tensor | int:
        """The sum of the terms: (G, Q, K); 0 if there are none."""
        queries, keys, last = q_GQE.shape[1], k_GKE.shape[1], self.relative.span * 2 - 1
        repeats = q_GQE.shape[0] // self.num_heads
        pos_k_HPE, pos_q_HPE = positions
        scores: Tensor | int = 0
        if pos_k_HPE is not None:
            by_row = torch.clamp(distances[:, :queries, :keys] + self.relative.span, 0, last)
            to_position = torch.bmm(q_GQE, pos_k_HPE.repeat(repeats, 1, 1).transpose(-1, -2))
            c2p_GQK = torch.gather(to_position, dim=-1, index=by_row.expand(q_GQE.shape[0], queries, keys))
            scores = scores + c2p_GQK / self._scale(q_GQE)
        if pos_q_HPE is not None:
            by_column = torch.clamp(-distances[:, :keys, :queries] + self.relative.span, 0, last)
            to_position = torch.bmm(k_GKE, pos_q_HPE.repeat(repeats, 1, 1).transpose(-1, -2))
            p2c_GKQ = torch.gather(to_position, dim=-1, index=by_column.expand(k_GKE.shape[0], keys, queries))
            scores = scores + p2c_GKQ.transpose(-1, -2) / self._scale(q_GQE)
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

    def forward(self, embedded_TD: Tensor, x_TD: Tensor, layout: Layout) -> Tensor:
        """`embedded_TD`: the input of the first layer; `x_TD`: its output."""
        grid_BDL = layout.grid(embedded_TD).permute(0, 2, 1).contiguous()
        out_BLD = self.conv(grid_BDL).permute(0, 2, 1).contiguous()
        mask_T1 = layout.row_mask()
        conv_TD = layout.rows(out_BLD)
        if mask_T1 is not None:
            conv_TD = conv_TD.masked_fill(~mask_T1, 0)
        conv_TD = self.act(F.dropout(conv_TD, p=self.dropout, training=self.training))
        out_TD: Tensor = self.norm(x_TD + conv_TD)
        return out_TD if mask_T1 is None else out_TD * mask_T1.to(out_TD.dtype)
