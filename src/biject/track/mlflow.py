"""MLflow: a run in the store that `MLFLOW_TRACKING_URI` names; settings are MLflow's own variables."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from biject.track.base import End, Event, scalars, settings

_MOST_LETTERS = 500
"""Of a parameter's value, in MLflow."""
_AT_ONCE = 100
"""Parameters."""
_STRANGE = re.compile(r"[^A-Za-z0-9_./ -]")
"""What its names may not have; a colon is for newer releases alone. Source: mlflow/utils/validation.py."""


class MLflow:
    """Logs by MLflow's client, so that a run that somebody else has open is left alone."""

    def __init__(self, run: str) -> None:
        from mlflow.tracking import MlflowClient

        self.client: Any = MlflowClient()
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", "biject")
        found = self.client.get_experiment_by_name(experiment)
        number = self.client.create_experiment(experiment) if found is None else found.experiment_id
        self.run_id: str = self.client.create_run(number, run_name=run).info.run_id

    def on_event(self, event: Event) -> None:
        """Scalars, and the recipe."""
        from mlflow.entities import Metric, Param

        at = int(1000 * float(event.get("time") or 0))
        if event.get("event") in ("start", "resume"):
            rows = [Param(name, str(value)[:_MOST_LETTERS]) for name, value in settings(event).items()]
            for start in range(0, len(rows), _AT_ONCE):
                self.client.log_batch(self.run_id, params=rows[start : start + _AT_ONCE])
        found = scalars(event)
        if found is not None:
            step, values = found
            metrics = [Metric(_name(name), value, at, step) for name, value in values.items()]
            self.client.log_batch(self.run_id, metrics=metrics)

    def close(self, *, ended: End = "finished") -> None:
        """Mark it as FINISHED, FAILED or KILLED."""
        self.client.set_terminated(self.run_id, status=ended.upper())


def _name(name: str) -> str:
    """`eval/ndcg@10` → `eval/ndcg_at_10`; a name is also a path, without empty parts and dots."""
    parts = _STRANGE.sub("_", name.replace("@", "_at_")).split("/")
    return "/".join(part for part in parts if part not in ("", ".", ".."))


def make(folder: Path, run: str) -> MLflow:
    """A tracker; MLflow chooses the place."""
    del folder
    return MLflow(run)
