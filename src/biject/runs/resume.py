"""`verify_resume` for a recipe: its model, data and settings, built again for each of the runs."""

from __future__ import annotations

from pathlib import Path

from biject.config.recipe import FinetuneRecipe
from biject.errors import InputError
from biject.runs.prepare import prepare
from biject.train import ranks
from biject.verify.report import Report
from biject.verify.resume import Start, verify_resume


def verify_recipe(recipe: FinetuneRecipe, *, steps: int = 10, keep: Path | None = None) -> Report:
    """Whether a run of this recipe that is interrupted ends as one that is not.

    Args:
        recipe: The run; only its first `steps` optimizer steps are trained.
        steps: An even number; the interruption is in the middle.
        keep: Leave the runs' checkpoints in this folder.

    Raises:
        BijectError: What cannot be used.
    """
    ranks.start()
    if ranks.count() > 1:
        raise InputError("verify-resume runs in one process, not under torchrun.")

    def make() -> Start:
        prepared = prepare(recipe)
        samples = prepared.samples
        return Start(trainer=prepared.trainer(recipe), dataset=samples.train, eval_dataset=samples.evaluation)

    return verify_resume(make, steps=steps, folder=keep, name=f"{recipe.task} on {recipe.data}")
