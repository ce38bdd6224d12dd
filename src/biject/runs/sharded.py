"""Runs whose model is spread over processes: how it is spread, and how one process has it at the end."""

from __future__ import annotations

import shutil
from dataclasses import replace

import torch

from biject.config.recipe import FinetuneRecipe
from biject.distributed.sharding import is_sharded, shard
from biject.events import notice
from biject.runs.folder import RunFolder
from biject.runs.prepare import Prepared, first_model
from biject.train import checkpoints, ranks

WHOLE = ".whole"
"""Where in a run's folder the trained weights stand until its end is written."""


def spread(recipe: FinetuneRecipe, prepared: Prepared) -> None:
    """Spread the model over the processes, if the recipe wants it and there are several."""
    sync = recipe.sync
    if not sync.shard:
        return
    if ranks.count() == 1:
        notice("not-sharded", "`sync.shard`: there is one process, which has the whole model.")
        return
    dtype = None if sync.shard_dtype == "float32" else getattr(torch, sync.shard_dtype)
    shard(prepared.model, dtype=dtype, offload=sync.offload)


def whole(run: RunFolder, recipe: FinetuneRecipe, prepared: Prepared) -> Prepared:
    """What a run works with, its model in one piece again where it was spread; by all processes.

    The weights go through a folder, tensor by tensor. The first process alone has the whole model then, on
    the CPU; the others still have their parts.

    Raises:
        CheckpointError: the folder cannot be written.
    """
    if not is_sharded(prepared.model):
        return prepared
    place = run.folder / WHOLE
    checkpoints.write(prepared.model, place, {})
    model = prepared.model
    if run.writes:
        model = first_model(recipe, prepared.samples)
        checkpoints.read(model, place)
        model.eval()
        shutil.rmtree(place)
    ranks.wait()
    return replace(prepared, model=model)
