"""A layer: attention and MLP, each with norm, dropout and residual."""

from __future__ import annotations

from torch import Tensor, nn

from biject.config.layers import LayerConfig, NormConfig
from biject.nn.conv import ConvLayer
from biject.nn.draws import dropped
from biject.nn.mlp import in_chunks
from biject.nn.modules import Scale, make_norm, settle
from biject.nn.patches import drop_path
from biject.nn.plan import BatchPlan
from biject.nn.registry import build
from biject.nn.rowwise import RowOp


class Layer(nn.Module):
    """Norms stand before attention and MLP and may stand after them, or after each one's residual.

    Shape: (T, D) → (T, D), or the rows that the plan's layout needs.
    Source: transformers 5.23, modeling_bert.py (BertLayer), modeling_llama.py (LlamaDecoderLayer),
    modeling_gpt2.py (GPT2Block).
    """

    attn: nn.Module
    attn_norm: nn.Module
    mlp: nn.Module
    mlp_norm: nn.Module
    attn_out_norm: nn.Module | None
    mlp_out_norm: nn.Module | None
    attn_scale: nn.Module | None
    mlp_scale: nn.Module | None
    conv: ConvLayer | None
    pre: bool
    chunk_size: int
    chunk_norm: bool

    def __init__(self, config: LayerConfig) -> None:
        super().__init__()
        pre = config.placement == "pre"
        settle(self, pre=pre, chunk_size=config.mlp_chunk_size, chunk_norm=config.mlp_chunk_norm, conv=None)
        self.dropout_rate = config.drop_path
        parts = {
            "attn": build(config.attention),
            "attn_norm": make_norm(config.attn_norm, config.hidden_size),
            "mlp": build(config.mlp),
            "mlp_norm": make_norm(config.mlp_norm, config.hidden_size),
        }
        order = ("attn_norm", "attn", "mlp_norm", "mlp") if pre else parts  # in which they run
        self._modules.update((name, parts[name]) for name in order)
        self.attn_dropout = nn.Dropout(config.attn_dropout)
        self.mlp_dropout = nn.Dropout(config.mlp_dropout)
        self.attn_out_norm = _norm_of_output(config.attn_out_norm, config.hidden_size)
        self.mlp_out_norm = _norm_of_output(config.mlp_out_norm, config.hidden_size)
        self.attn_scale = Scale(config.hidden_size) if config.scale else None
        self.mlp_scale = Scale(config.hidden_size) if config.scale else None
        if config.conv is not None:
            self.conv = ConvLayer(config.conv, config.hidden_size)

    def row_ops(self) -> tuple[RowOp, ...]:
        """Only those of its parts."""
        return ()

    def forward(self, x_TD: Tensor, plan: BatchPlan) -> Tensor:
        own = plan.own_draws
        if self.pre:
            attended_TD = self.attn(self.attn_norm(x_TD), plan)
            if self.attn_out_norm is not None:
                attended_TD = self.attn_out_norm(attended_TD)
            attended_TD = dropped(attended_TD, self.attn_dropout, own_draws=own)
            x_TD = plan.layout.queries(x_TD) + self._scaled(attended_TD, self.attn_scale, plan)
            mixed_TD = self.mlp(self.mlp_norm(x_TD))
            if self.mlp_out_norm is not None:
                mixed_TD = self.mlp_out_norm(mixed_TD)
            mixed_TD = dropped(mixed_TD, self.mlp_dropout, own_draws=own)
            return x_TD + self._scaled(mixed_TD, self.mlp_scale, plan)
        attended_TD = self.attn(x_TD, plan)
        sum_TD = dropped(attended_TD, self.attn_dropout, own_draws=own, residual_TD=plan.layout.queries(x_TD))
        input_TD, x_TD = x_TD, self.attn_norm(sum_TD)
        if not self.chunk_size:
            x_TD = self.mlp_norm(dropped(self.mlp(x_TD), self.mlp_dropout, own_draws=own, residual_TD=x_TD))
        elif self.chunk_norm:
            x_TD = in_chunks(self._mlp_block, x_TD, plan.layout, self.chunk_size)
        else:
            x_TD = self.mlp_norm(in_chunks(self._mlp, x_TD, plan.layout, self.chunk_size) + x_TD)
        return x_TD if self.conv is None else self.conv(input_TD, x_TD, plan.layout)

    def _scaled(self, x_TD: Tensor, scale: nn.Module | None, plan: BatchPlan) -> Tensor:
        """What is added to the residual: times the layer scale, and nothing for samples that go past."""
        x_TD = x_TD if scale is None else scale(x_TD)
        if self.dropout_rate == 0.0 or not self.training:
            return x_TD
        return drop_path(x_TD, plan.layout, rate=self.dropout_rate)

    def _mlp(self, x_TD: Tensor) -> Tensor:
        """Of layers whose norms stand behind."""
        out_TD: Tensor = self.mlp_dropout(self.mlp(x_TD))
        return out_TD

    def _mlp_block(self, x_TD: Tensor) -> Tensor:
        out_TD: Tensor = self.mlp_norm(self._mlp(x_TD) + x_TD)
        return out_TD


def _norm_of_output(config: NormConfig, size: int) -> nn.Module | None:
    return None if config.kind == "none" else make_norm(config, size)
