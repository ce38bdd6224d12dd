"""One run of a scorecard, in a process of its own: `python -m biject.runs.trial BACKEND RECIPE RESULT`.

Both back ends get the same samples, batches, optimizer, schedule and metrics: those of Biject. What differs
is the model: ours, or transformers' with PEFT's adapter.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from biject.config.recipe import FinetuneRecipe
from biject.config.recipe_file import make_recipe, read_recipe
from biject.errors import BijectError, InputError
from biject.identify import Identity
from biject.runs.adapter import quantised
from biject.runs.cell import check_cell, device_name
from biject.runs.prepare import has_head, prepare, read_material
from biject.tasks.common import usable_device
from biject.tasks.metrics import metrics_for
from biject.train.trainer import Trainer
from biject.verify.memory import PeakMemory
from biject.verify.peft_model import Wanted, peft_model

BACKENDS = ("ours", "peft")


def trial(backend: str, recipe: FinetuneRecipe) -> dict[str, Any]:
    """Train once; what is measured of it.

    Raises:
        BijectError: What cannot be used.
    """
    if recipe.backend != "biject":
        raise InputError("A scorecard compares Biject's own classes with transformers': leave `backend` out.")
    recipe = replace(recipe, train=replace(recipe.train, checkpoint_every=0))
    cuda = device_name(recipe).startswith("cuda")
    with PeakMemory() as memory:
        trainer, train, evaluation = _peft(recipe) if backend == "peft" else _ours(recipe)
        if evaluation is None:
            raise InputError("A scorecard needs rows to evaluate on: give eval_data, or a validation share.")
        started = time.perf_counter()
        fit = trainer.fit(train, eval_dataset=evaluation)
        seconds = time.perf_counter() - started
    name = recipe.train.metric.removeprefix("-")
    quality = fit.best_value if recipe.train.load_best else fit.history[-1][name]
    return {
        "metric": name,
        "quality": quality,
        "seconds": seconds,
        "peak_bytes": torch.cuda.max_memory_allocated() if cuda else memory.peak_bytes,
        "steps": fit.steps,
    }


def _ours(recipe: FinetuneRecipe) -> tuple[Trainer, Any, Any]:
    prepared = prepare(recipe)
    return prepared.trainer(recipe), prepared.samples.train, prepared.samples.evaluation


def _peft(recipe: FinetuneRecipe) -> tuple[Trainer, Any, Any]:
    """Transformers' model with PEFT's adapter, trained on the same samples."""
    check_cell(recipe)
    device = usable_device(device_name(recipe))
    material = read_material(recipe)
    samples, identity = material.samples, material.identity
    assert isinstance(identity, Identity)  # `check_cell` knows our families alone
    new = not has_head(recipe, identity)
    torch.manual_seed(recipe.train.seed)
    model = peft_model(
        Wanted(
            folder=material.source.folder,
            family=identity.family,
            head=recipe.task,
            labels=samples.labels if new else (),
            problem_type=samples.problem_type if new else None,
            adapter=None if recipe.method == "full" else recipe.adapter,
            **quantised(recipe),
        )
    ).to(device)
    trainer = Trainer(
        model,
        config=recipe.train,
        collate=material.collator(recipe),
        metrics=lambda: metrics_for(
            recipe.task,
            labels=samples.labels,
            problem_type=samples.problem_type,
            questions=samples.evaluation if recipe.task == "qa" else None,  # type: ignore[arg-type]
            tag_scheme=recipe.tag_scheme,
        ),
    )
    return trainer, samples.train, samples.evaluation


def main(arguments: list[str]) -> int:
    """Run the trial, and write its result."""
    backend, recipe, result = arguments
    try:
        found = trial(backend, make_recipe(read_recipe(Path(recipe)), where=recipe))
    except BijectError as error:
        sys.stderr.write(f"{error}\n")  # read by the scorecard
        return 2
    Path(result).write_text(json.dumps(found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
