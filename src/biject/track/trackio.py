"""trackio: a project in trackio's own local store; `trackio show` shows it. Settings are trackio's own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from biject.track.base import End, Event, scalars, settings


class Trackio:
    """Logs by trackio's functions; begins when the recipe is known."""

    def __init__(self, run: str) -> None:
        self.run_name = run
        self.run: Any = None

    def on_event(self, event: Event) -> None:
        """Scalars, and the recipe."""
        if self.run is None:
            import trackio
            import trackio.run as running
            import trackio.utils as helpers

            for module in (
                trackio,
                running,
                helpers,
            ):  # stdout is for the run
                vars(module)["print"] = lambda *words, **options: None
            project = os.environ.get("TRACKIO_PROJECT", "biject")
            self.run = trackio.init(
                project=project,
                name=self.run_name,
                config=dict(settings(event)),
                resume="allow",
                embed=False,
                auto_log_cpu=False,
                auto_log_gpu=False,
            )
        found = scalars(event)
        if found is not None:
            self.run.log(found[1], step=found[0])

    def close(self, *, ended: End = "finished") -> None:
        """Wait until everything is stored."""
        del ended  # trackio knows of no failed runs
        if self.run is not None:
            self.run.finish()


def make(folder: Path, run: str) -> Trackio:
    """A tracker; trackio chooses the place (`TRACKIO_DIR`)."""
    del folder
    return Trackio(run)
