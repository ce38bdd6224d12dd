"""Which rows a call wants of a head that works row by row, and what it gives for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from biject.config.model import HeadConfig
from biject.errors import InputError
from biject.nn.choose import Choice
from biject.nn.heads import RowHead, VocabHead
from biject.nn.layout import Layout, Padded
from biject.nn.loss import check_classes, detection_loss, row_loss, span_loss
from biject.nn.output import ModelOutput
from biject.nn.vocab_loss import vocab_loss, vocab_scores

_IGNORED = -100


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """What a call asks of the head."""

    labels: Tensor | None
    spans: tuple[Tensor | None, Tensor | None]
    """First and last tokens of answers, (B,) each."""
    logits_at: Tensor | None
    """(B, L), True where logits are wanted."""

    def needs_grid(self, head: nn.Module | None, grid: Padded) -> bool:
        """Whether padded rows count: in HF's span loss they always do, elsewhere where they have labels."""
        if not isinstance(head, RowHead | VocabHead) or grid.mask_BL is None:
            return False
        if any(span is not None for span in self.spans):
            return True
        asked = self.logits_at
        if asked is not None and bool((asked.to(torch.bool) & ~grid.mask_BL).any()):
            return True
        labels = self.labels
        return labels is not None and (
            labels.shape != grid.mask_BL.shape or bool(((labels != _IGNORED) & ~grid.mask_BL).any())
        )

    def places(self, head: nn.Module | None, grid: Padded, *, packed: bool) -> Tensor | None:
        """Where in the grid the wanted rows of logits stand, (K,); None if all are wanted.

        Raises:
            InputError: `logits_at` is asked of another head, or with labels, or has another shape.
        """
        shape = (grid.batch, grid.length)
        if self.logits_at is not None:
            if not isinstance(head, VocabHead):
                raise InputError("`logits_at` is for masked-LM heads; this head gives all its logits.")
            if self.labels is not None:
                raise InputError("Give `labels` or `logits_at`, not both: a loss needs the labelled rows.")
            if self.logits_at.shape != shape:
                raise InputError(
                    f"`logits_at` must be (batch, length) {shape}; found {tuple(self.logits_at.shape)}."
                )
            return self.logits_at.reshape(-1).nonzero().squeeze(-1)
        if packed and isinstance(head, VocabHead) and self.labels is not None and self.labels.shape == shape:
            return (self.labels.reshape(-1) != _IGNORED).nonzero().squeeze(-1)
        return None


def row_output(
    head: HeadConfig, logits_BLN: Tensor, layout: Layout, asked: Asked, traced: dict[str, Any]
) -> ModelOutput:
    """Names and losses of heads that give a few logits for every row."""
    labels = asked.labels
    if head.kind == "spans":
        starts, ends = (part.squeeze(-1).contiguous() for part in torch.split(logits_BLN, 1, dim=-1))
        first, last = asked.spans
        loss = None if first is None or last is None else span_loss(starts, ends, first, last)
        return ModelOutput(loss=loss, start_logits=starts, end_logits=ends, **traced)
    if head.kind == "detection":
        logits_BL = logits_BLN.squeeze(-1)
        loss = None if labels is None else detection_loss(logits_BL, labels, layout.mask_BL)
        return ModelOutput(loss=loss, logits=logits_BL, **traced)
    loss = None if labels is None else row_loss(logits_BLN, labels, float32=head.float32_loss)
    return ModelOutput(loss=loss, logits=logits_BLN, **traced)


def all_logits(logits_BLV: Tensor, asked: Asked, traced: dict[str, Any]) -> ModelOutput:
    """A vocabulary head's logits for every row, and the loss."""
    loss = None if asked.labels is None else row_loss(logits_BLV, asked.labels)
    return ModelOutput(loss=loss, logits=logits_BLV, **traced)


def wanted_logits(
    head: VocabHead,
    table_VD: Tensor,
    x_TD: Tensor,
    choice: Choice,
    last: Layout,
    asked: Asked,
    wanted_K: Tensor,
    traced: dict[str, Any],
) -> ModelOutput:
    """A vocabulary head's logits at the wanted rows, (K, V), or the loss of the labelled ones."""
    x_KD = head.features(choice.head_rows(x_TD, last, wanted_K))
    if asked.labels is None:
        return ModelOutput(logits=head.decoder(x_KD, table_VD)[: wanted_K.shape[0]], **traced)
    fill = wanted_K.new_full((x_KD.shape[0] - wanted_K.shape[0],), 0)
    labels_K = check_classes(asked.labels.reshape(-1), table_VD.shape[0]).index_select(0, wanted_K)
    labels_K, places_K = torch.cat([labels_K, fill - 100]), torch.cat([wanted_K, fill])
    sizes = {"total": choice.total, "least": choice.least(1)}
    if torch.is_grad_enabled():
        loss = vocab_loss(x_KD, head.decoder, table_VD, labels_K, places_K, **sizes)
        return ModelOutput(loss=loss, **traced)
    loss, best_K = vocab_scores(x_KD, head.decoder, table_VD, labels_K, places_K, **sizes)
    predictions_G = torch.full_like(asked.labels, _IGNORED).reshape(-1)
    predictions_G = predictions_G.index_copy(0, wanted_K, best_K[: wanted_K.shape[0]])
    return ModelOutput(loss=loss, predictions=predictions_G.view_as(asked.labels), **traced)
