"""Causal self-attention: what a decoder's layer does, and what all its layers are told in one call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from biject.config.causal import CausalConfig
from biject.config.model import ModelConfig
from biject.nn.attend import attend, attend_written_out, causal_mask, packed_mask
from biject.nn.kernels import merge_heads
from biject.nn.layout import Group, Layout, Packed
from biject.nn.modules import RMSNorm, make_linear
from biject.nn.rotary import Rotary, rotated
from biject.nn.traces import emit


class KeyValues(Protocol):
    """A memory of earlier keys and values, which generation passes in."""

    def update(self, layer: int, k_BGLE: Tensor, v_BGLE: Tensor) -> tuple[Tensor, Tensor]:
        """Remember those of this call; give all that this layer looks at, (B, G, S, E) each."""


@dataclass(frozen=True, kw_only=True)
class CausalCall:
    """What every layer needs in one call of the model."""

    turn: tuple[Tensor, Tensor] | None
    """Cosines and sines of every row's position, (T, E) each."""
    masks: Mapping[int | None, Tensor | None]
    """By window: which keys a query may look at; see `causal_mask`."""
    group_masks: tuple[Mapping[int | None, Tensor | None], ...] = ()
    """The same for each group of a packed batch."""
    memory: KeyValues | None = None


def causal_call(
    config: CausalConfig,
    rotary: Rotary | None,
    layout: Layout,
    positions: Tensor | None,
    *,
    dtype: torch.dtype,
    device: torch.device,
    written_out: bool,
    split: bool = False,
) -> CausalCall:
    """Masks and positions of a call without memory.

    `positions`: (B or 1, L); None for 0, 1, 2, … along the columns, whatever is padding, as HF counts.
    `split`: jumps in them are the ends of texts packed into one row.
    """
    given_BL = positions.expand(layout.batch, layout.length) if split and positions is not None else None
    if positions is None:
        positions = torch.arange(layout.length, device=device)[None]
    turn = None
    if rotary is not None:
        cos, sin = rotary(positions, dtype)
        shape = (layout.batch, layout.length, cos.shape[-1])
        turn = (layout.rows(cos.expand(shape)), layout.rows(sin.expand(shape)))
    if isinstance(layout, Packed):
        return CausalCall(
            turn=turn, masks={}, group_masks=tuple(_masks(config, g, device) for g in layout.groups)
        )
    packed = {} if given_BL is None else {w: packed_mask(given_BL, w) for w in set(config.windows)}
    masks = {
        window: packed[window]
        if packed.get(window) is not None
        else causal_mask(
            layout.mask_BL,
            batch=layout.batch,
            queries=layout.length,
            keys=layout.length,
            window=window,
            device=device,
            always=written_out or config.upcast,
        )
        for window in set(config.windows)
    }
    return CausalCall(turn=turn, masks=masks)


def _masks(config: CausalConfig, group: Group, device: torch.device) -> dict[int | None, Tensor | None]:
    """A group's masks by window; always there, as for HF's padded grid."""
    return {
        window: causal_mask(
            group.real_BK,
            batch=group.batch,
            queries=group.queries,
            keys=group.keys,
            window=window,
            device=device,
            always=True,
        )
        for window in set(config.windows)
    }


class CausalAttention(nn.Module):
    """Self-attention of a decoder: grouped heads, rotary positions, a window.

    Shape: (T, D) → (T, D).
    Source: transformers 5.23, modeling_llama.py (LlamaAttention), modeling_qwen3.py, modeling_gpt2.py.
    """

    def __init__(self, config: ModelConfig, causal: CausalConfig, layer: int) -> None:
        super().__init__()
        self.causal, self.layer = causal, layer
        self.num_heads, self.num_groups = config.num_attention_heads, causal.num_key_value_heads
        self.scale, self.window = causal.scales[layer], causal.windows[layer]
        self.dropout = config.attention_dropout
        width, in_out = config.hidden_size, config.weights_in_out
        wide, narrow = self.num_heads * causal.head_dim, self.num_groups * causal.head_dim
        self.widths = (wide, narrow, narrow)
        if causal.fused:
            self.qkv_proj = make_linear(width, wide + 2 * narrow, bias=causal.qkv_bias, in_out=in_out)
        else:
            self.q_proj = make_linear(width, wide, bias=causal.qkv_bias, in_out=in_out)
            self.k_proj = make_linear(width, narrow, bias=causal.qkv_bias, in_out=in_out)
            self.v_proj = make_linear(width, narrow, bias=causal.qkv_bias, in_out=in_out)
        self.o_proj = make_linear(wide, width, bias=causal.out_bias, in_out=in_out)
        self.q_norm = RMSNorm(causal.head_dim, eps=config.norm_eps) if causal.qk_norm else None
        self.k_norm = RMSNorm(causal.head_dim, eps=config.norm_eps) if causal.qk_norm else None

    def forward(self, x_TD: Tensor, layout: Layout, *, weights: bool, call: CausalCall) -> Tensor:
        """`weights`: compute the attention weights explicitly and emit them as `attentions`."""
        q_TD, k_TD, v_TD = self._project(x_TD)
        if isinstance(layout, Packed):
            packed_TD: Tensor = self.o_proj(self._grouped(q_TD, k_TD, v_TD, layout, call))
            return packed_TD
        turn = None if call.turn is None else tuple(map(layout.grid, call.turn))
        q_BHLE = self._heads(layout.grid(q_TD), self.q_norm, turn)
        k_BGLE = self._heads(layout.grid(k_TD), self.k_norm, turn)
        v_BGLE = self._heads(layout.grid(v_TD), None, None)
        if call.memory is not None:
            k_BGLE, v_BGLE = call.memory.update(self.layer, k_BGLE, v_BGLE)
        context_BHLE = self._attend(q_BHLE, k_BGLE, v_BGLE, call.masks[self.window], weights=weights)
        context_BLD = context_BHLE.transpose(1, 2).contiguous().view(layout.batch, layout.length, -1)
        out: Tensor = self.o_proj(layout.rows(context_BLD))
        return out

    def _grouped(self, q_TD: Tensor, k_TD: Tensor, v_TD: Tensor, layout: Packed, call: CausalCall) -> Tensor:
        """Attention of a packed batch, group by group."""
        contexts = []
        for group, masks in zip(layout.groups, call.group_masks, strict=True):
            at_q = at_k = None
            if call.turn is not None:
                at_q = tuple(map(group.query_grid, call.turn))
                at_k = tuple(map(group.key_grid, call.turn))
            q_BHLE = self._heads(group.query_grid(q_TD), self.q_norm, at_q)
            k_BGSE = self._heads(group.key_grid(k_TD), self.k_norm, at_k)
            v_BGSE = self._heads(group.key_grid(v_TD), None, None)
            context_BHLE = self._attend(q_BHLE, k_BGSE, v_BGSE, masks[self.window], weights=False)
            contexts.append(merge_heads(context_BHLE))
        return layout.ungroup(contexts)

    def _project(self, x_TD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.causal.fused:
            q_TD, k_TD, v_TD = self.qkv_proj(x_TD).split(self.widths, dim=-1)
            return q_TD, k_TD, v_TD
        return self.q_proj(x_TD), self.k_proj(x_TD), self.v_proj(x_TD)

    def _heads(self, x_BLD: Tensor, norm: nn.Module | None, turn: tuple[Tensor, ...] | None) -> Tensor:
        """Heads, normalised and turned by their positions: (B, L, H·E) → (B, H, L, E).

        In HF's order and shapes: the sum that is a norm's gradient depends on them.
        """
        x_BLHE = x_BLD.view(*x_BLD.shape[:-1], -1, self.causal.head_dim)
        x_BHLE = (x_BLHE if norm is None else norm(x_BLHE)).transpose(1, 2)
        return x_BHLE if turn is None else rotated(x_BHLE, *turn)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, weights: bool) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        if not weights and not self.causal.upcast:
            return attend(q, k, v, mask=mask, scale=self.scale, dropout=dropout)
        assert mask is not None
        context_BHLE, weights_BHLS = attend_written_out(
            q,
            k,
            v,
            mask=mask,
            scale=self.scale,
            dropout=dropout,
            softmax=torch.float32 if self.causal.softmax == "float32" else None,
            upcast=self.causal.upcast,
        )
        if weights:
            emit("attentions", weights_BHLS)
        return context_BHLE
