"""The proof at a run's end: HF loads the exported model, and agrees with the one in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from biject.fallback.model import FallbackModel
from biject.model import Model
from biject.verify import verify_trained
from biject.verify.adapter import verify_adapter
from biject.verify.fallback import verify_fallback
from biject.verify.report import Report

NUM_BATCHES = 8
"""Of the run's own samples that both sides compute, beside the built-in inputs."""


def prove(
    model: Model | FallbackModel,
    folder: Path,
    samples: Sequence[Mapping[str, Any]],
    collate: Callable[[Sequence[Mapping[str, Any]]], Mapping[str, Tensor]],
) -> Report:
    """Run the levels `reload` and `trained`, the latter on some of the run's own samples, too.

    Args:
        model: The fine-tuned model, which stays as it is; a copy is cast where the export's dtype is another.
        folder: Its export.
        samples: What to compute on both sides.
        collate: Makes batches of them.
    """
    batches = _batches(model, samples, collate)
    if isinstance(model, FallbackModel):
        return verify_fallback(model, folder, batches=batches)
    return verify_trained(model, folder, batches=batches)


def prove_adapter(
    model: Model | FallbackModel,
    folder: Path,
    samples: Sequence[Mapping[str, Any]],
    collate: Callable[[Sequence[Mapping[str, Any]]], Mapping[str, Tensor]],
) -> Report:
    """Run the level `adapter`: PEFT loads the folder on HF's base, and agrees with the model in memory.

    Args:
        model: With the adapter.
        folder: The adapter as it was written.
        samples: What to compute on both sides.
        collate: Makes batches of them.
    """
    batches = _batches(model, samples, collate)
    if isinstance(model, FallbackModel):
        return verify_fallback(model, folder, batches=batches)
    return verify_adapter(model, folder, batches=batches)


def _batches(
    model: Model | FallbackModel,
    samples: Sequence[Mapping[str, Any]],
    collate: Callable[[Sequence[Mapping[str, Any]]], Mapping[str, Tensor]],
) -> list[Mapping[str, Tensor]]:
    size = 4 if model.head_name in ("mlm", "causal") else 32  # logits over a vocabulary are large
    num_samples = min(len(samples), NUM_BATCHES * size)
    return [
        collate([samples[i] for i in range(at, min(at + size, num_samples))])
        for at in range(0, num_samples, size)
    ]
