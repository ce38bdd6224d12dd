"""The MLP: up, activation, down; and HF's way of giving it a few columns at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biject.config.layers import MLPConfig
from biject.errors import InputError
from biject.nn.activations import activation
from biject.nn.layout import Layout
from biject.nn.modules import Linear, make_linear
from biject.nn.rowwise import RowOp


class MLP(nn.Module):
    """Two linears around an activation, or three where a gate is activated and multiplies the way up.

    Shape: (T, D) → (T, D).
    Source: e.g. transformers 5.23, modeling_bert.py, BertIntermediate and BertOutput; modeling_llama.py,
    LlamaMLP; modeling_modernbert.py, ModernBertMLP.
    """

    def __init__(self, config: MLPConfig) -> None:
        super().__init__()
        self.config, self.act = config, activation(config.act)
        width, inner, fused = (
            config.hidden_size,
            config.intermediate_size,
            config.gate in ("fused", "stacked"),
        )

        def linear(inputs: int, outputs: int) -> nn.Module:
            return make_linear(inputs, outputs, bias=config.bias, transposed=config.transposed)

        if fused:
            self.gate_up_proj = linear(width, 2 * inner)
        else:
            self.gate_proj = linear(width, inner) if config.gate == "separate" else None
            self.up_proj = linear(width, inner)
        self.down_proj = linear(inner, width)
        self.dropout_rate = config.dropout

    def row_ops(self) -> tuple[RowOp, ...]:
        """The activation."""
        return (RowOp("activation", self.config.act, self.config.intermediate_size),)

    def forward(self, x_TD: Tensor) -> Tensor:
        if self.config.gate == "fused":
            gate_TF, up_TF = self.gate_up_proj(x_TD).chunk(2, dim=-1)
            inner_TF = self.act(gate_TF) * up_TF
        elif self.config.gate == "stacked":
            gate_TF, up_TF = _two_products(self.gate_up_proj, x_TD)
            inner_TF = self.act(gate_TF) * up_TF
        elif self.gate_proj is not None:
            inner_TF = self.act(self.gate_proj(x_TD)) * self.up_proj(x_TD)
        else:
            inner_TF = self.act(self.up_proj(x_TD))
        if self.dropout_rate:
            inner_TF = F.dropout(inner_TF, p=self.dropout_rate, training=self.training)
        out: Tensor = self.down_proj(inner_TF)
        return out


def _two_products(stacked: nn.Module, x_TD: Tensor) -> tuple[Tensor, Tensor]:
    """Gate and way up by a product each, of the halves of one matrix, as HF computes DINOv2's SwiGLU.

    A linear that is more than its matrix (an adapter, codes) is computed whole: PEFT has none for halves.
    """
    if not isinstance(stacked, Linear) or type(stacked) is not Linear:
        gate_TF, up_TF = stacked(x_TD).chunk(2, dim=-1)
        return gate_TF, up_TF
    biases = stacked.bias.chunk(2) if "bias" in dict(stacked.named_parameters()) else (None, None)
    (gate_FD, up_FD), (gate_F, up_F) = stacked.weight.chunk(2), biases
    return F.linear(x_TD, gate_FD, gate_F), F.linear(x_TD, up_FD, up_F)


def in_chunks(function: Callable[[Tensor], Tensor], x_TD: Tensor, layout: Layout, columns: int) -> Tensor:
    """`function` over `columns` columns of the grid at a time, or over all rows where `columns` is 0.

    The values hardly depend on it, gradients and random draws do (pytorch_utils.py,
    apply_chunking_to_forward, 5.23).

    Raises:
        InputError: the length is no multiple of `columns`; HF refuses that, too.
    """
    if columns == 0:
        return function(x_TD)
    if layout.length % columns:
        raise InputError(
            f"`chunk_size_feed_forward` is {columns}: the batch's length must be a multiple of it, found "
            f"{layout.length}."
        )
    chunks = torch.split(layout.grid(x_TD), columns, dim=1)
    done = [function(chunk.reshape(-1, chunk.shape[-1])).view(layout.batch, columns, -1) for chunk in chunks]
    return layout.rows(torch.cat(done, dim=1))
