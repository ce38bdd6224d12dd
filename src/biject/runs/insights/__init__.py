"""What the finished model does on held-out samples: for `insights.json`, which the report shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from biject.config.recipe import FinetuneRecipe
from biject.runs.insights import answers, classes, numbers, pairs, similar, tags, tokens
from biject.runs.insights.common import Held
from biject.runs.prepare import Prepared

_BY_TASK: Mapping[str, Callable[[Held], dict[str, Any]]] = {
    "seqcls": classes.look,
    "tokcls": tags.look,
    "qa": answers.look,
    "mlm": tokens.look,
    "causal": tokens.look,
    "imgcls": classes.look,
    "dpo": pairs.look,
    "reward": pairs.look,
    "embed": similar.look,
    "rerank": similar.look,
}


def look(recipe: FinetuneRecipe, prepared: Prepared) -> dict[str, Any] | None:
    """Confusions, calibration, uncertainty and the most surprising samples; None where nothing is held out.

    The model computes some of the evaluation's samples once more (`num_samples` of `of`), without dropout.

    Args:
        recipe: The run.
        prepared: Its model, as it was exported, and its samples.
    """
    if prepared.samples.evaluation is None:
        return None
    held = Held.of(recipe, prepared)
    regression = prepared.samples.problem_type == "regression"
    found = numbers.look(held) if regression else _BY_TASK[recipe.task](held)
    return {"task": recipe.task, "num_samples": len(held.chosen), "of": len(held.dataset), **found}
