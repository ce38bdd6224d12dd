"""Heads that give one row of logits a text."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from biject.config.heads import LastHeadConfig, PooledHeadConfig
from biject.config.model import ModelConfig
from biject.errors import InputError
from biject.events import notice
from biject.nn.batch import Batch, HeadRequest, HeadRows
from biject.nn.heads.base import Dense, Head, pool
from biject.nn.loss import pooled_loss
from biject.nn.modules import Linear
from biject.nn.output import ModelOutput
from biject.nn.plan import BatchPlan


class PooledHead(Dense, Head):
    """Logits from the first row (through a pooler, where there is one) or from the mean of a text's rows.

    Shape: (T, D) → (B, N).
    """

    def __init__(self, config: ModelConfig, head: PooledHeadConfig) -> None:
        super().__init__(config, head)
        self.mean = head.pooling == "mean"
        self.pooler = Linear(config.hidden_size, config.hidden_size) if head.pooler else None
        self.dropout_in, self.dropout = nn.Dropout(head.dropout_in), nn.Dropout(head.dropout)
        size = self.add_dense(config.hidden_size, head.dense)
        self.out = Linear(size, head.num_labels)

    def rows(self, batch: Batch, request: HeadRequest, *, packed: bool) -> HeadRows:
        super().rows(batch, request, packed=packed)
        return HeadRows(first=not self.mean)

    def forward(self, x_TD: Tensor, plan: BatchPlan) -> ModelOutput:
        x_BD = _mean(x_TD, plan) if self.mean else pool(self.pooler, x_TD, plan.layout)
        if self.dense_config is not None:
            x_BD = self.features(self.dropout_in(x_BD))
        return pooled_output(self, self.out(self.dropout(x_BD)), plan)


def _mean(x_TD: Tensor, plan: BatchPlan) -> Tensor:
    """Of each text's tokens: (T, D) → (B, D). Source: transformers 5.23, modeling_modernbert.py."""
    x_BLD, mask_BL = plan.layout.grid(x_TD), plan.batch.attention_mask
    if mask_BL is None:
        mask_BL = torch.ones(x_BLD.shape[:2], device=x_BLD.device, dtype=torch.bool)
    return (x_BLD * mask_BL.unsqueeze(-1)).sum(dim=1) / mask_BL.sum(dim=1, keepdim=True)


class LastHead(Head):
    """Logits of every row of the grid, of which each text's last token's are kept.

    Shape: (T, D) → (B, N).
    Source: transformers 5.23, modeling_layers.py (GenericForSequenceClassification).
    """

    def __init__(self, config: ModelConfig, head: LastHeadConfig) -> None:
        super().__init__(config, head)
        self.out = Linear(config.hidden_size, head.num_labels, bias=False)

    def rows(self, batch: Batch, request: HeadRequest, *, packed: bool) -> HeadRows:
        """All, since HF goes by ids alone: a text may be classified by a row that the mask hides."""
        super().rows(batch, request, packed=packed)
        if batch.attention_mask is None:
            return HeadRows()
        if batch.input_ids is None or self.pad_token_id is None:
            return HeadRows(whole=True)
        columns_B = torch.as_tensor(last_columns(batch.input_ids, len(batch.input_ids), self.pad_token_id))
        columns_L = torch.arange(batch.shape[1], device=batch.input_ids.device)
        return HeadRows(read_BL=columns_L == columns_B.view(-1, 1))

    def forward(self, x_TD: Tensor, plan: BatchPlan) -> ModelOutput:
        x_BLD = plan.layout.grid(x_TD)  # all rows: the bits of so few outputs depend on their number
        logits_BLN = self.out(x_BLD.view(-1, x_BLD.shape[-1])).view(*x_BLD.shape[:2], -1)
        columns_B = last_columns(plan.batch.input_ids, x_BLD.shape[0], self.pad_token_id)
        logits_BN = logits_BLN[torch.arange(x_BLD.shape[0], device=logits_BLN.device), columns_B]
        return pooled_output(self, logits_BN, plan)


def pooled_output(head: Head, logits_BN: Tensor, plan: BatchPlan) -> ModelOutput:
    """Logits of one row a text, and their loss."""
    loss, labels = None, plan.request.labels
    if labels is not None:
        loss, logits_BN = pooled_loss(logits_BN, labels, head.config)
    return ModelOutput(loss=loss, logits=logits_BN)


def last_columns(input_ids: Tensor | None, batch: int, pad_token_id: int | None) -> Tensor | int:
    """The column of each text's last token that is no padding token, (B,); the attention mask plays no part.

    -1, the last column, where padding cannot be told: from embeddings, or for one text without a
    `pad_token_id`.

    Raises:
        InputError: several texts, and no padding token is defined.
    """
    if pad_token_id is None:
        if batch != 1:
            raise InputError(
                f"{batch} texts cannot be classified in one call: config.json defines no `pad_token_id`, so "
                "a text's last token cannot be told from padding. Define it, or pass one text at a time."
            )
        return -1
    if input_ids is None:
        notice(
            "padding-unseen",
            "Padding cannot be seen in `inputs_embeds`: each text's last column is classified.",
        )
        return -1
    real_BL = (input_ids != pad_token_id).to(torch.int32)
    columns = torch.arange(input_ids.shape[-1], device=input_ids.device, dtype=torch.int32)
    return (columns * real_BL).argmax(-1)
