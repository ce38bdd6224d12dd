"""Trains to the end from where the run is: `torchrun elastic_worker.py MODEL OUT MODE STEPS [FAULT]`.

FAULT in the first attempt: `kill` (rank 1 kills itself after step 6), `hang` (stops itself for good).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from cases import Collate, Tokens, digest, weights

from biject.config.sync import SyncConfig
from biject.errors import BijectError
from biject.pretrained import load
from biject.train import ranks
from biject.train.trainer import Trainer

BATCH = 4


def main() -> None:
    torch.set_num_threads(1)
    folder, out, mode, steps = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    fault = sys.argv[5] if len(sys.argv) > 5 and os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0" else ""
    shares: Any = "equal"
    sync = SyncConfig(mode=mode, shares=shares, anchor=2, max_anchor=2, timeout=8)
    model, collate = load(folder), Collate()
    kept: list[int] = []

    class Hooks:
        def on_step(self, step: int, result: Any) -> None:
            if step >= 6 and kept and fault and ranks.rank() == 1:
                os.kill(os.getpid(), signal.SIGKILL if fault == "kill" else signal.SIGSTOP)

        def on_checkpoint(self, step: int, path: Path) -> None:
            kept[:] = collate.seen
            write(kept)

    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")

    def write(seen: list[int], **more: Any) -> None:
        name = f"seen-{steps}-{attempt}-{os.environ.get('RANK', 0)}.json"
        (out / name).write_text(json.dumps({"seen": seen, **more}))

    trainer = Trainer(
        model, collate=collate, lr=1e-3, schedule="constant", checkpoint_every=4, keep=9,
        callbacks=[Hooks()], sync=sync,
    )  # fmt: skip
    try:
        result = trainer.fit(Tokens(80), batch_size=BATCH, max_steps=steps, out=out, resume=True)
    except BijectError as error:
        print(f"rank {ranks.rank()}: {error}", file=sys.stderr)
        os._exit(2)
    write(collate.seen, losses=result.losses, digest=digest(model), weights=weights(model))


main()
