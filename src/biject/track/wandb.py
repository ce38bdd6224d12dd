"""Weights & Biases: `WANDB_MODE=offline` keeps all in `RUN/wandb`; settings are wandb's own variables."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from biject.track.base import End, Event, scalars, settings


class WeightsAndBiases:
    """Logs by a run object of wandb."""

    def __init__(self, folder: Path, run: str) -> None:
        self.folder, self.run_name = folder, run
        self.run: Any = None

    def on_event(self, event: Event) -> None:
        """Scalars, and the recipe."""
        if self.run is None:
            import wandb

            self.run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "biject"),
                name=self.run_name,
                id=hashlib.sha256(str(self.folder).encode()).hexdigest()[:16],  # a resumed run is the same
                resume="allow",
                dir=str(self.folder),
                config=dict(settings(event)),
                settings=wandb.Settings(console="off", silent=True),
            )
            self.run.define_metric("*", step_metric="step")
        found = scalars(event)
        if found is not None:
            step, values = found
            self.run.log({**values, "step": step})

    def close(self, *, ended: End = "finished") -> None:
        """Wait until everything is sent or stored; what did not finish is marked as failed."""
        if self.run is not None:
            self.run.finish(exit_code=0 if ended == "finished" else 1)


def make(folder: Path, run: str) -> WeightsAndBiases:
    """A tracker that keeps its files in the run's folder."""
    return WeightsAndBiases(folder, run)
