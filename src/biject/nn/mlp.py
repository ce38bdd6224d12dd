"""The MLP: up, activation, down; and HF's way of giving it a few columns at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from biject.config.model import ModelConfig
from biject.errors import InputError
from biject.nn.activations import activation
from biject.nn.layout import Layout
from biject.nn.modules import Linear


class MLP(nn.Module):
    """Two linears around an activation.

    Shape: (T, D) → (T, D).
    Source: e.g. transformers 5.23, modeling_bert.py, BertIntermediate and BertOutput.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up_proj = Linear(config.hidden_size, config.intermediate_size)
        self.down_proj = Linear(config.intermediate_size, config.hidden_size)
        self.act = activation(config.hidden_act)

    def forward(self, x_TD: Tensor) -> Tensor:
        out: Tensor = self.down_proj(self.act(self.up_proj(x_TD)))
        return out


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
