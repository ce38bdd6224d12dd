"""Heads that give one row of logits a picture from more than its first row."""

from __future__ import annotations

import torch
from torch import Tensor

from biject.config.heads import DistilledHeadConfig, PatchMeanHeadConfig
from biject.config.model import ModelConfig
from biject.errors import InputError
from biject.nn.batch import Batch, HeadRequest, HeadRows
from biject.nn.heads.base import Head
from biject.nn.heads.pooled import pooled_output
from biject.nn.modules import Linear
from biject.nn.output import ModelOutput
from biject.nn.plan import BatchPlan


class PatchMeanHead(Head):
    """Logits from the first row and the mean of the patches, side by side.

    Shape: (T, D) → (B, N).
    Source: transformers 5.23, modeling_dinov2.py (Dinov2ForImageClassification).
    """

    def __init__(self, config: ModelConfig, head: PatchMeanHeadConfig) -> None:
        super().__init__(config, head)
        self.skipped = head.skipped
        self.out = Linear(2 * config.hidden_size, head.num_labels)

    def rows(self, batch: Batch, request: HeadRequest, *, packed: bool) -> HeadRows:
        """All of the grid: HF's mean counts masked patches, too."""
        super().rows(batch, request, packed=packed)
        return HeadRows(whole=True)

    def forward(self, x_TD: Tensor, plan: BatchPlan) -> ModelOutput:
        x_BLD = plan.layout.grid(x_TD)
        x_BD = torch.cat([x_BLD[:, 0], x_BLD[:, self.skipped :].mean(dim=1)], dim=1)
        return pooled_output(self, self.out(x_BD), plan)


class DistilledHead(Head):
    """Logits from the first row, logits from the second, and their mean.

    Shape: (T, D) → (B, N), three times.
    Source: transformers 5.23, modeling_deit.py (DeiTForImageClassificationWithTeacher).
    """

    def __init__(self, config: ModelConfig, head: DistilledHeadConfig) -> None:
        super().__init__(config, head)
        self.out = Linear(config.hidden_size, head.num_labels)
        self.distillation_out = Linear(config.hidden_size, head.num_labels)

    def rows(self, batch: Batch, request: HeadRequest, *, packed: bool) -> HeadRows:
        super().rows(batch, request, packed=packed)
        if request.labels is not None:
            raise InputError(
                "This head has no loss, as in transformers: it is for predictions. Train with "
                "AutoModelForImageClassification."
            )
        return HeadRows(whole=True)

    def forward(self, x_TD: Tensor, plan: BatchPlan) -> ModelOutput:
        x_BLD = plan.layout.grid(x_TD)
        first_BN, second_BN = self.out(x_BLD[:, 0, :]), self.distillation_out(x_BLD[:, 1, :])
        mean_BN = (first_BN + second_BN) / 2
        return ModelOutput(logits=mean_BN, cls_logits=first_BN, distillation_logits=second_BN)
