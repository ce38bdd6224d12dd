"""`Predictions`: what a model gives for a data set, row by row, as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from biject.errors import InputError

Array = npt.NDArray[Any]
PADDING = -100
"""Fills rows that are shorter than the longest, as in HF's Trainer."""
_LEFT_OUT = frozenset(("loss", "hidden_states", "attentions", "past_key_values"))
_LABELS = ("labels", "start_positions", "end_positions")


class Predictions(NamedTuple):
    """What `Trainer.predict` gives; names and order as HF's `PredictionOutput`.

    Attributes:
        predictions: (samples, …): logits, or several arrays where the model gives several outputs; rows of
            different lengths are padded with -100.
        label_ids: Labels in the same form; None where samples have none.
        metrics: Loss and metrics; empty without labels.
    """

    predictions: Array | tuple[Array, ...]
    label_ids: Array | tuple[Array, ...] | None
    metrics: dict[str, float]


def has_labels(batch: Any) -> bool:
    """Whether a batch has something to compute a loss with; assumed of batches that are no mappings."""
    return not isinstance(batch, Mapping) or any(name in batch for name in _LABELS)


def outputs_of(given: Any) -> tuple[Tensor, ...]:
    """A model's outputs by row: logits and the like, without loss, hidden states and attentions.

    Raises:
        InputError: There are none.
    """
    if isinstance(given, Tensor):
        return (given,)
    if isinstance(given, list | tuple) and not hasattr(given, "_fields"):
        found = [value for value in given if isinstance(value, Tensor) and value.dim()]
    else:
        items = given.items() if isinstance(given, Mapping) or hasattr(given, "items") else _fields(given)
        found = [value for name, value in items if name not in _LEFT_OUT and isinstance(value, Tensor)]
    if not found:
        raise InputError(
            f"predict: the model gave no outputs by row, but {type(given).__name__}; it should give logits."
        )
    return tuple(found)


def _fields(given: Any) -> list[tuple[str, Any]]:
    named = is_dataclass(given) or hasattr(given, "__dict__")
    return list(vars(given).items()) if named else []


def labels_of(batch: Any) -> tuple[Tensor, ...]:
    """The labels of a batch, in the order of their names in HF."""
    if not isinstance(batch, Mapping):
        return ()
    return tuple(batch[name] for name in _LABELS if name in batch)


def joined(parts: Sequence[tuple[Tensor, ...]]) -> Array | tuple[Array, ...] | None:
    """Batches end to end: one array for each output, alone where there is one; None for no parts."""
    if not parts or not parts[0]:
        return None
    arrays = tuple(_joined([part[i] for part in parts]) for i in range(len(parts[0])))
    return arrays[0] if len(arrays) == 1 else arrays


def _joined(tensors: Sequence[Tensor]) -> Array:
    plain = [_array(tensor) for tensor in tensors]
    if all(array.ndim < 2 or array.shape[1] == plain[0].shape[1] for array in plain):
        return np.concatenate(plain)
    longest = max(array.shape[1] for array in plain)
    padded = []
    for array in plain:
        wide = np.full((len(array), longest, *array.shape[2:]), PADDING, dtype=array.dtype)
        wide[:, : array.shape[1]] = array
        padded.append(wide)
    return np.concatenate(padded)


def _array(tensor: Tensor) -> Array:
    wide = tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
    found: Array = wide.detach().cpu().numpy()
    return found
