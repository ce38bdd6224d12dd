"""`Tracked`: a tracker as a callback of `biject.Trainer`."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from biject.track.background import Background
from biject.track.registry import make_tracker


class Tracked:
    """Shows a training by the API in a tracker, from the first process alone.

    Args:
        name: `tensorboard`, `trackio`, `wandb` or `mlflow`.
        folder: Where the tracker writes what it keeps on this machine.
        run: The run's name; the folder's where left out.
    """

    def __init__(self, name: str, folder: str | Path, *, run: str | None = None) -> None:
        self._tracker: Background | None = None
        if os.environ.get("RANK", "0") == "0":
            self._tracker = make_tracker(name, Path(folder), run=run)

    def _event(self, kind: str, **values: Any) -> None:
        if self._tracker is not None:
            self._tracker.on_event({"event": kind, "time": round(time.time(), 3), **values})

    def on_start(self, start: Any) -> None:
        """The settings of the training."""
        found = start.to_json()
        kind = "resume" if found["step"] else "start"
        self._event(kind, from_step=found["step"], recipe={"train": found["config"]})

    def on_step(self, step: int, result: Any) -> None:
        """Loss, learning rate, gradient norm, tokens."""
        self._event("step", step=step, **result.to_json())

    def on_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Loss and metrics."""
        self._event("evaluation", step=step, **metrics)

    def on_end(self, result: Any) -> None:
        """Wait a while for what is still to be written."""
        self._event("end", steps=result.steps)
        if self._tracker is not None:
            self._tracker.close(ended="killed" if result.interrupted else "finished")
