"""What a run writes down while it goes on: one line of `events.jsonl` for each thing that happens."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from biject.runs.folder import RunFolder
from biject.train.callbacks import Callback
from biject.train.loop import StepResult


class Counted:
    """A collator that counts what it made: tokens, and slots with the padding among them."""

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self.collate = collate
        self.tokens = self.slots = 0

    def __call__(self, samples: list[Any]) -> Any:
        """A batch."""
        batch = self.collate(samples)
        mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
        if isinstance(mask, Tensor):
            self.tokens, self.slots = self.tokens + int(mask.sum()), self.slots + mask.numel()
        return batch

    def take(self) -> tuple[int, int]:
        """Tokens and slots since the last call."""
        found = self.tokens, self.slots
        self.tokens = self.slots = 0
        return found


class RunLog(Callback):
    """Writes events, and says what an evaluation found."""

    def __init__(self, run: RunFolder, counted: Counted, write_line: Callable[[str], None]) -> None:
        self.run, self.counted, self.write_line = run, counted, write_line
        self.started = time.monotonic()

    def seconds(self) -> float:
        """Since the process began to train."""
        return round(time.monotonic() - self.started, 3)

    def on_step(self, step: int, result: StepResult) -> None:
        """`slots`: tokens of all processes with the padding that a padded batch would have."""
        tokens, slots = self.counted.take()
        whole = {"slots": round(result.tokens * slots / tokens)} if tokens else {}
        self.run.event("step", step=step, seconds=self.seconds(), **result.to_json(), **whole)

    def on_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        self.counted.take()  # an evaluation's batches are not the next step's
        self.run.event("evaluation", step=step, seconds=self.seconds(), **metrics)
        self.write_line(
            f"EVALUATION step {step}: {', '.join(f'{name} {value:.4f}' for name, value in metrics.items())}"
        )

    def on_checkpoint(self, step: int, folder: Path) -> None:
        """Relative to the run's folder, which may be moved."""
        self.run.event("checkpoint", step=step, seconds=self.seconds(), folder=f"checkpoints/{folder.name}")


def trimmed(lines: Sequence[str], most: int = 2000) -> list[str]:
    """Not more lines than a page can show."""
    return [*lines[:most], *([f"… and {len(lines) - most} more"] if len(lines) > most else [])]
