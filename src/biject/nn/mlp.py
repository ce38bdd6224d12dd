"""The MLP: up, activation, down."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from biject.config.model import ModelConfig
from biject.errors import InputError
from biject.nn.activations import activation
from biject.nn.layout import Padded


class MLP(nn.Module):
    """Two linears around an activation.

    Shape: (T, D) → (T, D).
    Source: e.g. transformers 5.23, modeling_bert.py, BertIntermediate and BertOutput; chunking in pytorch_utils.py.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size)
        self.act = activation(config.hidden_act)
        self.chunk = config.feed_forward_chunk_size

    def forward(self, x_TD: Tensor, layout: Padded) -> Tensor:
        if self.chunk == 0:
            return self._rows(x_TD)
        if layout.length % self.chunk:
            raise InputError(
                f"`chunk_size_feed_forward` is {self.chunk}: the batch's length must be a multiple of it, found "
                f"{layout.length}."
            )
        parts = [
            layout_part.view(layout.batch, self.chunk, -1)
            for columns in layout.grid(x_TD).split(self.chunk, dim=1)
            for layout_part in [self._rows(columns.reshape(-1, columns.shape[-1]))]
        ]
        return layout.rows(torch.cat(parts, dim=1))

    def _rows(self, x_TD: Tensor) -> Tensor:
        out: Tensor = self.down_proj(self.act(self.up_proj(x_TD)))
        return out
