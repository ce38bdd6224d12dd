"""The MLP: up, activation, down; and HF's way of giving it a few columns at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biject.config.layers import MLPConfig
from biject.errors import InputError
from biject.nn.activations import activation
from biject.nn.layout import Layout
from biject.nn.modules import Linear, make_linear
from biject.nn.native.activations import activate
from biject.nn.rowwise import RowOp

_in_one_pass: ContextVar[bool] = ContextVar("in_one_pass", default=False)


@contextmanager
def activations_in_one_pass() -> Iterator[None]:
    """What HF computes in several steps, each rounded, is computed in one (`nn/native/activations.py`)."""
    before = _in_one_pass.set(True)
    try:
        yield
    finally:
        _in_one_pass.reset(before)


def _may_take_one_pass() -> bool:
    return not torch.compiler.is_compiling() and _in_one_pass.get()


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
            inner_TF = self._activated(*self.gate_up_proj(x_TD).chunk(2, dim=-1))
        elif self.config.gate == "stacked":
            inner_TF = self._activated(*_two_products(self.gate_up_proj, x_TD))
        elif self.gate_proj is None:
            inner_TF = self._activated(self.up_proj(x_TD))
        elif _may_take_one_pass():
            inner_TF = self._activated(self.gate_proj(x_TD), self.up_proj(x_TD))
        else:  # the gate's memory is free before the way up needs some
            inner_TF = self.act(self.gate_proj(x_TD)) * self.up_proj(x_TD)
        if self.dropout_rate:
            inner_TF = F.dropout(inner_TF, p=self.dropout_rate, training=self.training)
        out: Tensor = self.down_proj(inner_TF)
        return out

    def _activated(self, x_TF: Tensor, times_TF: Tensor | None = None) -> Tensor:
        if _may_take_one_pass():
            found = activate(self.config.act, x_TF, times_TF)
            if found is not None:
                return found
        return self.act(x_TF) if times_TF is None else self.act(x_TF) * times_TF


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
