"""Trains with a rate that rises to RATE, in both modes: `torchrun guard_worker.py OUT RATE`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from cases import MLP, mean_step, numbers

from biject.config.sync import SyncConfig
from biject.events import Notice, Progress, listening
from biject.train import ranks
from biject.train.trainer import Trainer


class Heard:
    """Remembers what was said."""

    def __init__(self) -> None:
        self.codes: list[str] = []

    def notice(self, event: Notice) -> None:
        self.codes.append(event.code)

    def progress(self, event: Progress) -> None: ...


def main() -> None:
    torch.set_num_threads(1)
    ranks.start()
    out, rate = Path(sys.argv[1]), float(sys.argv[2])
    found = {mode: train(mode, rate) for mode in ("cadence", "async")}
    (out / f"{ranks.rank()}.json").write_text(json.dumps(found))


def train(mode: Any, rate: float) -> dict[str, Any]:
    """What came of every meeting, and what was said."""
    meetings: list[Any] = []
    heard = Heard()
    torch.manual_seed(0)
    with listening(heard):
        trainer = Trainer(
            MLP(), step=mean_step, lr=rate, optimizer="sgd", warmup=0.95, clip_norm=None, weight_decay=0.0,
            sync=SyncConfig(mode=mode, anchor=4, max_anchor=4, divergence_threshold=0.05),
            on_step=lambda step, result: meetings.append(result.to_json()["meeting"]),
        )  # fmt: skip
        trainer.fit(numbers(2400), batch_size=2, epochs=1)
    return {"meetings": meetings, "heard": heard.codes}


main()
