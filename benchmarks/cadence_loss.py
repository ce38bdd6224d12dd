"""Ranks that step by themselves against one process at equal samples: the loss on held-out movie snippets.

`python benchmarks/cadence_loss.py [--rows 960] [--epochs 2] [--seeds 3]`; needs the movie snippets and
MiniLM (`make demo` fetches both). Dropout off; one process with batches of 32, two with 16 each.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

BATCH, HELD_OUT = 32, 400


def worker(mode: str, rows: int, epochs: int, seed: int, out: Path) -> None:
    """Train, evaluate, and let rank 0 write the loss."""
    import torch
    from movie_snippets import LABELS, MINILM, WARMUP, Quiet, collate, samples

    from biject.config.sync import SyncConfig
    from biject.events import listening
    from biject.pretrained import load
    from biject.train import ranks
    from biject.train.trainer import Trainer

    torch.set_num_threads(1)
    ranks.start()
    data = samples()
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0)).tolist()
    held, trained = order[:HELD_OUT], order[HELD_OUT : HELD_OUT + rows]
    with listening(Quiet()):
        torch.manual_seed(seed)
        model = load(MINILM, head="seqcls", new_head={"labels": LABELS})
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        trainer = Trainer(
            model, collate=collate, lr=1e-4, warmup=WARMUP, seed=seed, progress=False,
            sync=SyncConfig(mode=mode, anchor=4),
        )  # fmt: skip
        result = trainer.fit([data[i] for i in trained], batch_size=BATCH // ranks.count(), epochs=epochs)
        found = trainer.evaluate([data[i] for i in held])
    if ranks.rank() == 0:
        out.write_text(json.dumps({"loss": found["loss"], "meetings": len(result.losses)}))


def run(mode: str, count: int, *numbers: int) -> dict[str, Any]:
    """The loss after a run of so many processes."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "found.json"
        start = (
            [] if count == 1 else ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", count]
        )
        what = [Path(__file__), "--worker", mode, "--numbers", *numbers, "--out", out]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
        command = [sys.executable, *start, *what]
        subprocess.run(
            [str(part) for part in command], env=environment, check=True, stderr=subprocess.DEVNULL
        )
        found: dict[str, Any] = json.loads(out.read_text())
        return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=960)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--worker")
    parser.add_argument("--numbers", type=int, nargs="*")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.worker:
        worker(given.worker, *given.numbers, given.out)
        return
    print(f"{given.rows} rows, {given.epochs} epochs; loss on {HELD_OUT} held-out rows")
    for seed in range(given.seeds):
        numbers = (given.rows, given.epochs, seed)
        one = run("step", 1, *numbers)["loss"]
        line = f"seed {seed}: one process {one:.4f}"
        for mode in ("cadence", "async"):
            found = run(mode, 2, *numbers)
            line += (
                f", {mode} {found['loss']:.4f} ({found['loss'] / one - 1:+.1%}, {found['meetings']} meetings)"
            )
        print(line, flush=True)


if __name__ == "__main__":
    main()
