"""What a run writes down while it goes on: one line of `events.jsonl` for each thing that happens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from torch import Tensor

from biject.fallback.model import FallbackModel
from biject.model import Model
from biject.runs.folder import RunFolder
from biject.runs.utilisation import Flops
from biject.track import End, make_tracker
from biject.train.callbacks import Callback, RunStart
from biject.train.loop import StepResult


class RunLog(Callback):
    """Writes events, and says what an evaluation found.

    Attributes:
        flops: Counts what the model has to compute.
    """

    def __init__(
        self, run: RunFolder, model: Model | FallbackModel, write_line: Callable[[str], None]
    ) -> None:
        self.run, self.model, self.write_line = run, model, write_line
        self.flops = Flops(model)
        self.started = time.monotonic()
        self._tokens = self._slots = 0
        self._rates: list[float] = []
        self._last: float | None = None

    def seconds(self) -> float:
        """Since the process began to train."""
        return round(time.monotonic() - self.started, 3)

    def tokens_per_second(self) -> float | None:
        """The median over the steps, which evaluations between them do not lower."""
        return median(self._rates) if self._rates else None

    def watch(self, collate: Callable[[list[Any]], Any]) -> Callable[[list[Any]], Any]:
        """A collator that counts what it makes for training."""

        def counting(samples: list[Any]) -> Any:
            batch = collate(samples)
            mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
            if isinstance(mask, Tensor) and self.model.training:
                self._tokens, self._slots = self._tokens + int(mask.sum()), self._slots + mask.numel()
                self.flops.count(batch)
            return batch

        return counting

    def on_start(self, start: RunStart) -> None:
        """The clock of the first step."""
        self._last = time.monotonic()

    def on_step(self, step: int, result: StepResult) -> None:
        """`slots`: tokens of all processes with the padding that a padded batch would have."""
        now = time.monotonic()
        if self._last is not None and now > self._last:
            self._rates.append(result.tokens / (now - self._last))
        self._last = now
        more = {"slots": round(result.tokens * self._slots / self._tokens)} if self._tokens else {}
        self._tokens = self._slots = 0
        self.run.event("step", step=step, seconds=self.seconds(), **result.to_json(), **more)

    def on_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        self._last = time.monotonic()  # its time is not the next step's
        self.run.event("evaluation", step=step, seconds=self.seconds(), **metrics)
        self.write_line(
            f"EVALUATION step {step}: {', '.join(f'{name} {value:.4f}' for name, value in metrics.items())}"
        )

    def on_checkpoint(self, step: int, folder: Path) -> None:
        """Relative to the run's folder, which may be moved."""
        self._last = time.monotonic()
        self.run.event("checkpoint", step=step, seconds=self.seconds(), folder=f"checkpoints/{folder.name}")


def trimmed(lines: Sequence[str], most: int = 2000) -> list[str]:
    """Not more lines than a page can show."""
    return [*lines[:most], *([f"… and {len(lines) - most} more"] if len(lines) > most else [])]


@contextmanager
def tracked(run: RunFolder, names: Sequence[str]) -> Iterator[None]:
    """Inside the block trackers get the run's events, too, the first of them already; then how it ended."""
    trackers = [make_tracker(name, run.folder) for name in names] if run.writes else []
    run.listeners += [tracker.on_event for tracker in trackers]
    for tracker in trackers:
        for event in run.events()[-1:]:
            tracker.on_event(event)
    ended: End = "failed"
    try:
        yield
        ended = "killed" if trackers and _was_interrupted(run) else "finished"
    except (KeyboardInterrupt, SystemExit):
        ended = "killed"
        raise
    finally:
        run.listeners.clear()
        for tracker in trackers:
            tracker.close(ended=ended)


def _was_interrupted(run: RunFolder) -> bool:
    return any(event.get("event") == "interrupted" for event in run.events()[-1:])
