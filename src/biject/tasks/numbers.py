"""Softmax and sigmoid in numpy's float32, as HF's pipelines compute them.

Source: transformers 5.23, pipelines/text_classification.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

Floats = npt.NDArray[np.floating[Any]]


def to_numpy(logits: Tensor) -> Floats:
    """Logits in float32 where they were narrower, on the CPU."""
    wide = logits if logits.element_size() >= 4 else logits.float()
    array: Floats = wide.cpu().numpy()
    return array


def softmax(logits: Floats) -> Floats:
    """Over the last axis."""
    shifted: Floats = np.exp(logits - np.max(logits, axis=-1, keepdims=True))
    probs: Floats = shifted / shifted.sum(axis=-1, keepdims=True)
    return probs


def sigmoid(logits: Floats) -> Floats:
    """Each value by itself, without overflow."""
    with np.errstate(over="ignore"):
        probs: Floats = 1.0 / (1.0 + np.exp(-logits))
    return probs
