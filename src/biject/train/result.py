"""`FitResult`: what a run did, and which of its states the model is in."""

from __future__ import annotations

from dataclasses import dataclass, field

from biject.config.metric import smaller_is_better


@dataclass(kw_only=True)
class FitResult:
    """What a run did."""

    steps: int = 0
    losses: list[float] = field(default_factory=list)
    """Mean loss per optimizer step of this call."""
    history: list[dict[str, float]] = field(default_factory=list)
    best_value: float | None = None
    best_step: int | None = None
    stopped_early: bool = False
    interrupted: bool = False
    """Somebody asked it to stop before its end; resumed, it goes on to the same bits."""
    model_step: int = 0
    """The step whose weights the model has now: the best evaluation's, unless `load_best` is False."""
    model_state: str = ""
    """The same in words."""


def state_in_words(result: FitResult, metric: str, *, load_best: bool) -> str:
    """Which state the model is in, and why it is that one."""
    place = f"step {result.model_step} of {result.steps}"
    if not result.history:
        return f"{place}: the last, as nothing was evaluated"
    name = metric.lstrip("-")
    if result.best_step is None:
        return f"{place}: the last, as {name} was no number (NaN) in any evaluation"
    if result.model_step != result.best_step:
        why = "its checkpoint is gone" if load_best else "load_best is false"
        return f"{place}: the last, not the best, step {result.best_step}, as {why}"
    found = next(entry for entry in result.history if entry["step"] == result.best_step)
    values = ", ".join(f"{key} {value:.4f}" for key, value in found.items() if key != "step")
    way = "smallest" if smaller_is_better(metric) else "largest"
    return f"{place}, by the {way} {name}: {values}"
