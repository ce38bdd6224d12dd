"""Losses, as Hugging Face's head classes compute them from `labels` (transformers 5.23, e.g.
modeling_bert.py).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from biject.config.heads import HeadConfig, ProblemType
from biject.errors import InputError


def pooled_loss(logits_BN: Tensor, labels: Tensor, head: HeadConfig) -> tuple[Tensor, Tensor]:
    """Regression, single-label or multi-label classification; what `problem_type` leaves open is inferred.

    Returns:
        The loss, and the logits as HF returns them beside it: where DeBERTa infers regression, they
        come back flat, (B,), and in the labels' dtype.
    """
    if head.problem_type is None and head.infer_problem == "shape":
        if head.num_labels == 1:
            logits_B = logits_BN.view(-1).to(labels.dtype)
            return F.mse_loss(logits_B, labels.view(-1)), logits_B
        return _loss_by_shape(logits_BN, labels), logits_BN
    return _loss_by_problem(logits_BN, labels, head), logits_BN


def _loss_by_problem(logits_BN: Tensor, labels: Tensor, head: HeadConfig) -> Tensor:
    problem = head.problem_type or problem_from(labels, head.num_labels)
    if problem == "regression":
        if head.num_labels == 1:
            return F.mse_loss(logits_BN.squeeze(), labels.squeeze())
        return F.mse_loss(logits_BN, labels)
    if problem == "single_label_classification":
        return F.cross_entropy(
            logits_BN.view(-1, head.num_labels), check_classes(labels, head.num_labels).view(-1)
        )
    return F.binary_cross_entropy_with_logits(logits_BN, labels)


def problem_from(labels: Tensor, num_labels: int) -> ProblemType:
    """HF's rule: one label is regression, integer labels are classes, anything else is multi-label."""
    if num_labels == 1:
        return "regression"
    integers = labels.dtype in (torch.long, torch.int)
    return "single_label_classification" if integers else "multi_label_classification"


def _loss_by_shape(logits_BN: Tensor, labels: Tensor) -> Tensor:
    """DeBERTa's rule for an unset `problem_type` (modeling_deberta_v2.py): negative classes are
    left out.
    """
    num_labels = logits_BN.shape[-1]
    if labels.dim() == 1 or labels.size(-1) == 1:
        labels = labels.view(-1)  # HF crashes on a column of labels
        index = (labels >= 0).nonzero()
        if index.size(0) == 0:
            return torch.tensor(0).to(logits_BN)
        chosen = torch.gather(logits_BN, 0, index.expand(index.size(0), num_labels))
        classes = torch.gather(labels.long(), 0, index.view(-1))
        return F.cross_entropy(
            chosen.view(-1, num_labels).float(), check_classes(classes, num_labels).view(-1)
        )
    return -((F.log_softmax(logits_BN, -1) * labels).sum(-1)).mean()


def row_loss(logits_BLN: Tensor, labels_BL: Tensor, *, float32: bool = False) -> Tensor:
    """Mean cross-entropy over rows whose label is not -100; `float32`: of logits cast to it first."""
    num_labels = logits_BLN.shape[-1]
    logits_BLN = logits_BLN.float() if float32 else logits_BLN
    return F.cross_entropy(logits_BLN.view(-1, num_labels), check_classes(labels_BL, num_labels).view(-1))


def next_labels(labels_BL: Tensor) -> Tensor:
    """What each row of a causal model predicts: the next row's label; -100 for the last
    (loss/loss_utils.py, ForCausalLMLoss, which then takes the loss in float32).
    """
    return F.pad(labels_BL, (0, 1), value=-100)[..., 1:].contiguous()


def span_loss(start_BL: Tensor, end_BL: Tensor, starts_B: Tensor, ends_B: Tensor) -> Tensor:
    """Mean of the losses of start and end; positions beyond the row are left out."""
    ignored = start_BL.size(1)
    starts_B = (starts_B.squeeze(-1) if starts_B.dim() > 1 else starts_B).clamp(0, ignored)
    ends_B = (ends_B.squeeze(-1) if ends_B.dim() > 1 else ends_B).clamp(0, ignored)
    start = F.cross_entropy(start_BL, starts_B, ignore_index=ignored)
    end = F.cross_entropy(end_BL, ends_B, ignore_index=ignored)
    return (start + end) / 2


def detection_loss(logits_BL: Tensor, labels_BL: Tensor, mask_BL: Tensor | None) -> Tensor:
    """Mean binary cross-entropy over real tokens (modeling_electra.py, ElectraForPreTraining)."""
    if mask_BL is None:
        return F.binary_cross_entropy_with_logits(logits_BL, labels_BL.float())
    return F.binary_cross_entropy_with_logits(logits_BL[mask_BL], labels_BL[mask_BL].float())


def check_classes(labels: Tensor, num_labels: int) -> Tensor:
    """`labels`, checked where looking costs little (on the CPU)."""
    if labels.device.type == "cpu" and not labels.is_floating_point() and labels.numel():
        wrong = labels[(labels != -100) & ((labels < 0) | (labels >= num_labels))]
        if wrong.numel():
            raise InputError(
                f"`labels` must lie in 0…{num_labels - 1} (or be -100, ignored); found {int(wrong[0])}."
            )
    return labels
