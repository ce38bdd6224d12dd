"""The default step and its weight: the head's own loss, and how many items it is the mean of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from biject.errors import InputError


def head_step(model: nn.Module, batch: Any) -> Tensor:
    """The loss that the model's own head computes from the batch.

    Raises:
        InputError: the model gives no loss for such a batch.
    """
    if not isinstance(batch, Mapping):
        raise InputError(
            f"A batch should be a dict of tensors for the model's own loss, found {type(batch).__name__}; "
            "or give step=."
        )
    loss = getattr(model(**batch), "loss", None)
    if loss is None:
        raise InputError(
            f"The model gives no loss for a batch of {', '.join(batch)}: labels are missing, or give step=."
        )
    assert isinstance(loss, Tensor)
    return loss


def num_items(batch: Any, *, head: str | None = None) -> float:
    """Labelled items of a batch: labels that are not -100 (of a causal head, behind a row's first, which
    is not predicted), answers inside the text, or rows.
    """
    if isinstance(batch, Mapping):
        if head == "rtd" and "attention_mask" in batch:
            return float((batch["attention_mask"] == 1).sum())
        labels = batch.get("labels")
        if head == "causal" and labels is not None:
            labels = labels[..., 1:]
        if labels is not None and not labels.is_floating_point():
            return float((labels >= 0).sum())
        if "start_positions" in batch and "input_ids" in batch:
            starts = batch["start_positions"]
            return float(((starts >= 0) & (starts < batch["input_ids"].shape[1])).sum())
        return num_rows(next(iter(batch.values())))
    if isinstance(batch, list | tuple) and batch:
        return num_rows(batch[0])
    return num_rows(batch)


def num_tokens(batch: Any) -> float:
    """Tokens of a batch, padding not counted; of pictures their number; 0 where there are none."""
    if not isinstance(batch, Mapping):
        return 0.0
    if "pixel_values" in batch:
        return num_rows(batch["pixel_values"])
    mask, ids = batch.get("attention_mask"), batch.get("input_ids")
    if isinstance(mask, Tensor):
        return float((mask == 1).sum())
    return float(ids.numel()) if isinstance(ids, Tensor) else 0.0


def num_rows(value: Any) -> float:
    """Rows of a tensor; 1 for anything else."""
    return float(value.shape[0]) if isinstance(value, Tensor) and value.dim() else 1.0
