"""A run of two processes of which one says that it has a GPU: `torchrun mixed_worker.py OUT`.

Tensors are on the CPU all the same; what is exchanged, and over what, is as beside a GPU.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from cases import MLP, mean_step, numbers

from biject.config.sync import SyncConfig
from biject.train import ranks
from biject.train.trainer import Trainer


def train(mode: str, out: Path, *, resume: bool = False) -> list[float]:
    torch.manual_seed(0)
    trainer = Trainer(
        MLP(), step=mean_step, lr=1e-2, batch_size=8 // ranks.count(), checkpoint_every=4, keep=9,
        sync=SyncConfig(mode=mode, shares="equal"), progress=False,
    )  # fmt: skip
    start = out / mode / "checkpoints" / "step-000004" if resume else False
    return trainer.fit(
        numbers(96), max_steps=12, out=out / (f"{mode}-again" if resume else mode), resume=start
    ).losses


def main() -> None:
    torch.set_num_threads(1)
    ranks.accelerators = lambda: [torch.device("cuda", 0)]
    ranks.start()
    out = Path(sys.argv[1])
    found = {
        "mixed": ranks.mixed(),
        "device": str(ranks.own_device(torch.device("cuda"))) if ranks.rank() else "",
        "step": train("step", out),
        "again": train("step", out, resume=True),
        "cadence": train("cadence", out),
    }
    (out / f"{ranks.rank()}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
