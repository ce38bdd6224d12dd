"""A convolution beside a layer (ConvLayer of DeBERTa-v2 xlarge)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from biject.config.layers import ConvConfig
from biject.nn.activations import activation
from biject.nn.layout import Layout
from biject.nn.modules import Conv1d, make_norm
from biject.nn.rowwise import RowOp


class ConvLayer(nn.Module):
    """A convolution over a layer's input, added to its output. It sees the whole grid.

    Shape: (T, D), (T, D) → (T, D).
    """

    def __init__(self, config: ConvConfig, hidden_size: int) -> None:
        super().__init__()
        self.conv = Conv1d(hidden_size, config.kernel_size, groups=config.groups)
        self.norm = make_norm(config.norm, hidden_size)
        self.act_name, self.act, self.dropout = config.act, activation(config.act), config.dropout

    def row_ops(self) -> tuple[RowOp, ...]:
        """The activation."""
        return (RowOp("activation", self.act_name, self.conv.out_channels),)

    def forward(self, input_TD: Tensor, x_TD: Tensor, layout: Layout) -> Tensor:
        """`input_TD`: the layer's input; `x_TD`: its output."""
        grid_BDL = layout.grid(input_TD).permute(0, 2, 1).contiguous()
        out_BLD = self.conv(grid_BDL).permute(0, 2, 1).contiguous()
        mask_T1 = layout.row_mask()
        conv_TD = layout.rows(out_BLD)
        if mask_T1 is not None:
            conv_TD = conv_TD.masked_fill(~mask_T1, 0)
        conv_TD = self.act(F.dropout(conv_TD, p=self.dropout, training=self.training))
        out_TD: Tensor = self.norm(x_TD + conv_TD)
        return out_TD if mask_T1 is None else out_TD * mask_T1.to(out_TD.dtype)
