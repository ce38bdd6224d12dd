"""`Tracker`, and which numbers of an event it is to show."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, Protocol

Event = Mapping[str, Any]
"""A line of `events.jsonl`: see docs/events.md."""
End = Literal["finished", "failed", "killed"]
"""How a run ended: an error is a failure; one that somebody stopped is killed, and may go on."""

_TRAINING = ("loss", "lr", "grad_norm", "tokens")
_NO_METRICS = ("step", "time", "seconds")


class Tracker(Protocol):
    """What shows a run while it goes on. Methods are called in one thread, one after the other."""

    def on_event(self, event: Event) -> None:
        """One more line of the run's events."""

    def close(self, *, ended: End = "finished") -> None:
        """The run has ended: write what is still to be written, and mark how."""


def scalars(event: Event) -> tuple[int, dict[str, float]] | None:
    """Step and numbers of an event, `train/…` and `eval/…` as HF's Trainer has them; None for none."""
    kind, step = event.get("event"), event.get("step")
    if kind not in ("step", "evaluation") or not isinstance(step, int):
        return None
    names = _TRAINING if kind == "step" else [name for name in event if name not in _NO_METRICS]
    prefix = "train" if kind == "step" else "eval"
    found = {f"{prefix}/{name}": number(event.get(name)) for name in names}
    return step, {name: value for name, value in found.items() if value is not None}


def number(value: Any) -> float | None:
    """A finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def settings(event: Event) -> dict[str, str | int | float | bool]:
    """The recipe of a `start` or `resume` event, flat, `train.lr` and so on."""
    recipe = event.get("recipe")
    found: dict[str, Any] = {}
    for name, value in (recipe if isinstance(recipe, Mapping) else {}).items():
        if isinstance(value, Mapping) and name == "train":
            found |= {f"train.{key}": one for key, one in value.items()}
        else:
            found[str(name)] = value
    plain = str | int | float | bool
    return {name: value if isinstance(value, plain) else str(value) for name, value in found.items()}
