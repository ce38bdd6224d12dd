"""Heads that give a few logits for every token."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from biject.config.heads import RowHeadConfig, TokenHeadConfig
from biject.config.model import ModelConfig
from biject.nn.batch import Batch, HeadRequest, HeadRows
from biject.nn.heads.base import IGNORED, Dense, Head
from biject.nn.loss import detection_loss, row_loss, span_loss
from biject.nn.modules import Linear
from biject.nn.output import ModelOutput
from biject.nn.plan import BatchPlan
from biject.nn.rowwise import RowOp


class RowHead(Dense, Head):
    """Logits for every row.

    Shape: (T, D) → (B, L, N), zeros where the layout has no row.
    """

    def __init__(self, config: ModelConfig, head: RowHeadConfig) -> None:
        super().__init__(config, head)
        self.dropout = nn.Dropout(head.dropout)
        size = self.add_dense(config.hidden_size, head.dense)
        self.out = Linear(size, head.num_labels, bias=head.out_bias)

    def rows(self, batch: Batch, request: HeadRequest, *, packed: bool) -> HeadRows:
        super().rows(batch, request, packed=packed)
        labels = request.labels
        if labels is None:
            return HeadRows()
        if labels.shape != batch.shape:
            return HeadRows(whole=True)
        return HeadRows(read_BL=labels != IGNORED)

    def row_kernels(self) -> frozenset[RowOp] | None:
        """Those before the output, which is given the grid."""
        return self.dense_ops()

    def logits(self, x_TD: Tensor, plan: BatchPlan) -> Tensor:
        """(B, L, N). Where bits are kept, the last linear is given all of HF's rows: with so few outputs it
        costs little, and the bits of a product with one output or two depend most on the number of rows.
        """
        layout, x_TD = plan.layout, self.dropout(self.features(x_TD))
        if not plan.exact:
            return layout.grid(self.out(x_TD))
        x_BLD = layout.grid(x_TD)
        logits_GN = self.out(x_BLD.view(-1, x_BLD.shape[-1]))
        return layout.grid(layout.rows(logits_GN.view(*x_BLD.shape[:2], -1)))


class TokenHead(RowHead):
    """Token classification."""

    def forward(self, x_TD: Tensor, plan: BatchPlan) -> ModelOutput:
        logits_BLN, labels, loss = self.logits(x_TD, plan), plan.request.labels, None
        if labels is not None:
            loss = row_loss(logits_BLN, labels, float32=cast(TokenHeadConfig, self.config).float32_loss)
        return ModelOutput(loss=loss, logits=logits_BLN)


class SpanHead(RowHead):
    """Start and end of an answer."""

    targets = ("start_positions", "end_positions")

    def rows(self, batch: Batch, request: HeadRequest, *, packed: bool) -> HeadRows:
        """All, and padding too where there are answers: HF's loss is a softmax over all columns."""
        spans = (request.start_positions, request.end_positions)
        if any(span is not None for span in spans):
            self.report_unused(request)
            return HeadRows(whole=True)
        return super().rows(batch, request, packed=packed)

    def forward(self, x_TD: Tensor, plan: BatchPlan) -> ModelOutput:
        logits_BLN, request = self.logits(x_TD, plan), plan.request
        starts, ends = (part.squeeze(-1).contiguous() for part in torch.split(logits_BLN, 1, dim=-1))
        first, last = request.start_positions, request.end_positions
        loss = None if first is None or last is None else span_loss(starts, ends, first, last)
        return ModelOutput(loss=loss, start_logits=starts, end_logits=ends)


class DetectionHead(RowHead):
    """Replaced-token detection."""

    def forward(self, x_TD: Tensor, plan: BatchPlan) -> ModelOutput:
        logits_BL, labels = self.logits(x_TD, plan).squeeze(-1), plan.request.labels
        loss = None if labels is None else detection_loss(logits_BL, labels, plan.layout.mask_BL)
        return ModelOutput(loss=loss, logits=logits_BL)
