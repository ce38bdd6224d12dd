"""`evaluate`: loss and metrics of a checkpoint's own head on labelled rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from biject.config.recipe import FinetuneRecipe
from biject.errors import InputError
from biject.runs.preferences import check_has_reference
from biject.runs.prepare import has_head, prepare, read_identity
from biject.train import ranks


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """What was found.

    Attributes:
        model: The checkpoint, as it was named.
        data: The rows, as they were named.
        task: What the head is for.
        metrics: `loss`, and the task's own.
        num_samples: Samples that were computed.
        lines: Lines for the user about the data.
    """

    model: str
    data: str
    task: str
    metrics: Mapping[str, float]
    num_samples: int
    lines: tuple[str, ...]


def evaluate(recipe: FinetuneRecipe) -> Evaluated:
    """Evaluate a checkpoint as a fine-tuning run evaluates it.

    Args:
        recipe: Its model, data, columns and `train.batch_size` count; all rows are evaluated.

    Raises:
        InputError: The checkpoint has no trained head for the task.
        BijectError: What else cannot be used.
    """
    if recipe.validation:
        raise InputError("`validation` has no meaning here: all rows are evaluated.")
    if not has_head(recipe, read_identity(recipe)):
        raise InputError(
            f"{recipe.model} has no trained head for {recipe.task}, so there is nothing to evaluate: train "
            "one with `biject finetune`, or name another --task."
        )
    check_has_reference(recipe)
    ranks.start()
    prepared = prepare(recipe)
    samples = prepared.samples
    with torch.no_grad():
        found = prepared.trainer(recipe, over=samples.train).evaluate(samples.train)
    return Evaluated(
        model=recipe.model,
        data=recipe.data,
        task=recipe.task,
        metrics=found,
        num_samples=len(samples.train),
        lines=tuple(f"DATA {line}" for line in samples.train_lines),
    )
