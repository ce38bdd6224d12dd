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
from biject.nn.lm import CausalHead, LastHead, last_columns
from biject.nn.loss import (
    check_classes,
    detection_loss,
    next_labels,
    pooled_loss,
    row_loss,
    span_loss,
)
from biject.nn.output import ModelOutput
from biject.nn.vocab_loss import vocab_loss, vocab_scores

_IGNORED = -100


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """What a call asks of the head."""

    input_ids: Tensor | None
    labels: Tensor | None
    spans: tuple[Tensor | None, Tensor | None]
    """First and last tokens of answers, (B,) each."""
    logits_at: Tensor | None
    """(B, L), True where logits are wanted."""

    def targets(self, head: nn.Module | None) -> Tensor | None:
        """What each row is to foretell, (B, L): its label, or for a causal head the next row's."""
        if self.labels is None or not isinstance(head, CausalHead):
            return self.labels
        return next_labels(self.labels)

    def needs_grid(self, head: nn.Module | None, grid: Padded, pad_token_id: int | None) -> bool:
        """Whether padded rows count: in HF's span loss they always do, elsewhere where they have labels."""
        if grid.mask_BL is None:
            return False
        if isinstance(head, LastHead):
            return self._last_is_masked(grid.mask_BL, pad_token_id)
        if not isinstance(head, RowHead | VocabHead | CausalHead):
            return False
        if any(span is not None for span in self.spans):
            return True
        asked = self.logits_at
        if asked is not None and bool((asked.to(torch.bool) & ~grid.mask_BL).any()):
            return True
        targets = self.targets(head)
        return targets is not None and (
            targets.shape != grid.mask_BL.shape or bool(((targets != _IGNORED) & ~grid.mask_BL).any())
        )

    def _last_is_masked(self, mask_BL: Tensor, pad_token_id: int | None) -> bool:
        """Whether a text is classified by a row that the mask hides: HF goes by ids alone."""
        if self.input_ids is None or pad_token_id is None:
            return True
        columns = torch.as_tensor(last_columns(self.input_ids, mask_BL.shape[0], pad_token_id))
        return not bool(mask_BL.gather(1, columns.to(mask_BL.device).view(-1, 1).long()).all())

    def places(self, head: nn.Module | None, grid: Padded, *, packed: bool) -> Tensor | None:
        """Where in the grid the wanted rows of logits stand, (K,); None if all are wanted.

        Raises:
            InputError: `logits_at` is asked of another head, or with labels, or has another shape.
        """
        shape = (grid.batch, grid.length)
        if self.logits_at is not None:
            if not isinstance(head, VocabHead | CausalHead):
                raise InputError("`logits_at` is for heads over a vocabulary; this one gives all its logits.")
            if self.labels is not None:
                raise InputError("Give `labels` or `logits_at`, not both: a loss needs the labelled rows.")
            if self.logits_at.shape != shape:
                raise InputError(
                    f"`logits_at` must be (batch, length) {shape}; found {tuple(self.logits_at.shape)}."
                )
            return self.logits_at.reshape(-1).nonzero().squeeze(-1)
        targets = self.targets(head)
        if packed and isinstance(head, VocabHead | CausalHead) and targets is not None:
            return (targets.reshape(-1) != _IGNORED).nonzero().squeeze(-1) if targets.shape == shape else None
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


def pooled_output(head: HeadConfig, logits_BN: Tensor, asked: Asked, traced: dict[str, Any]) -> ModelOutput:
    """Logits of one row a text, and their loss."""
    loss = None
    if asked.labels is not None:
        loss, logits_BN = pooled_loss(logits_BN, asked.labels, head)
    return ModelOutput(loss=loss, logits=logits_BN, **traced)


def all_logits(
    head: VocabHead | CausalHead, logits_BLV: Tensor, asked: Asked, traced: dict[str, Any]
) -> ModelOutput:
    """A vocabulary head's logits for every row, and the loss."""
    targets = asked.targets(head)
    loss = None if targets is None else row_loss(logits_BLV, targets, float32=isinstance(head, CausalHead))
    return ModelOutput(loss=loss, logits=logits_BLV, **traced)


def wanted_logits(
    head: VocabHead | CausalHead,
    table_VD: Tensor,
    x_TD: Tensor,
    choice: Choice,
    last: Layout,
    asked: Asked,
    wanted_K: Tensor,
    traced: dict[str, Any],
) -> ModelOutput:
    """A vocabulary head's logits at the wanted rows, (K, V), or the loss of the labelled ones."""
    targets, least = asked.targets(head), choice.least(1)
    if least is None or choice.least(wanted_K.shape[0]) is None:
        return _wanted_of_all(
            head, head(last.grid(x_TD).view(choice.total, -1), table_VD), targets, wanted_K, traced
        )
    x_KD = head.features(choice.head_rows(x_TD, last, wanted_K))
    if targets is None:
        return ModelOutput(logits=head.decoder(x_KD, table_VD)[: wanted_K.shape[0]], **traced)
    fill = wanted_K.new_full((x_KD.shape[0] - wanted_K.shape[0],), 0)
    labels_K = check_classes(targets.reshape(-1), table_VD.shape[0]).index_select(0, wanted_K)
    labels_K, places_K = torch.cat([labels_K, fill - 100]), torch.cat([wanted_K, fill])
    sizes: dict[str, Any] = {"total": choice.total, "least": least}
    sizes["float32"] = isinstance(head, CausalHead)
    if torch.is_grad_enabled():
        loss = vocab_loss(x_KD, head.decoder, table_VD, labels_K, places_K, **sizes)
        return ModelOutput(loss=loss, **traced)
    loss, best_K = vocab_scores(x_KD, head.decoder, table_VD, labels_K, places_K, **sizes)
    found = _predictions(targets, wanted_K, best_K[: wanted_K.shape[0]])
    return ModelOutput(loss=loss, predictions=found, **traced)


def _wanted_of_all(
    head: VocabHead | CausalHead,
    logits_GV: Tensor,
    targets: Tensor | None,
    wanted_K: Tensor,
    traced: dict[str, Any],
) -> ModelOutput:
    """The same from all of the grid's rows, where a row has HF's bits in its own place only."""
    if targets is None:
        return ModelOutput(logits=logits_GV.index_select(0, wanted_K), **traced)
    loss = row_loss(logits_GV, targets, float32=isinstance(head, CausalHead))
    if torch.is_grad_enabled():
        return ModelOutput(loss=loss, **traced)
    best_K = logits_GV.index_select(0, wanted_K).argmax(-1)
    return ModelOutput(loss=loss, predictions=_predictions(targets, wanted_K, best_K), **traced)


def _predictions(targets: Tensor, wanted_K: Tensor, best_K: Tensor) -> Tensor:
    """(B, L): the likeliest entries where there are labels, -100 elsewhere."""
    predictions_G = torch.full_like(targets, _IGNORED).reshape(-1)
    return predictions_G.index_copy(0, wanted_K, best_K).view_as(targets)
