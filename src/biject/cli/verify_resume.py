"""`biject verify-resume`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from biject.cli.flags import Json
from biject.config.recipe import FinetuneTask
from biject.config.recipe_file import make_recipe, read_recipe
from biject.errors import InputError


def verify_resume(
    run: Annotated[Path | None, Parameter(name="RUN")] = None,
    /,
    *,
    model: Annotated[str | None, Parameter(metavar="REPO|DIR")] = None,
    data: Annotated[str | None, Parameter(metavar="FILE|REPO")] = None,
    task: FinetuneTask | None = None,
    steps: Annotated[int, Parameter(metavar="N")] = 10,
    keep: Annotated[Path | None, Parameter(metavar="DIR")] = None,
    json: Json = False,
) -> int:
    """Prove that an interrupted run ends where an uninterrupted one does, to the bit.

    Trains the recipe for N steps; then again, interrupted after the checkpoint at N/2 and resumed
    from there with everything built again. The exit code is 1 where sha256 of the weights, the
    optimizer's state or the random generators differ. Nothing of the run itself is touched.

    Args:
        run: A run's folder, or a recipe in TOML.
        model: What to start from, instead of the recipe's.
        data: Rows to train on, instead of the recipe's.
        task: The head to train, instead of the recipe's.
        steps: Optimizer steps of the uninterrupted run, an even number.
        keep: Leave the checkpoints of both runs in this new folder.
    """
    values: dict[str, Any] = {} if run is None else read_recipe(run / "run.toml" if run.is_dir() else run)
    given = {"model": model, "data": data, "task": task}
    values |= {name: value for name, value in given.items() if value is not None}
    lacking = [f"--{name}" for name in given if name not in values]
    if lacking:
        raise InputError(f"verify-resume needs a RUN or recipe, or {', '.join(lacking)}.")
    recipe = make_recipe(values, where="The recipe" if run is None else str(run))

    from biject.cli.report import print_report
    from biject.runs.resume import verify_recipe

    return print_report(verify_recipe(recipe, steps=steps, keep=keep), json=json)
