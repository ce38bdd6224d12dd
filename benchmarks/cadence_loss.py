"""Ranks that step by themselves against one process at equal samples: the loss on held-out movie snippets.

`python benchmarks/cadence_loss.py [--size tiny|minilm] [--rows 8000] [--epochs 2] [--seeds 3] [--sides …]`;
needs the movie snippets and a model (`make demo` fetches them). A side is a mode, and settings of `[sync]`
after it: `cadence,outer="nesterov",outer_lr=1.0`. Dropout off; one process with batches of 32, two with
16 each. Rows that are not trained on are held out. A seed decides the new head and the order of the rows:
one process's own spread over seeds is noise.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

BATCH, HELD_OUT = 32, 1000
"""Rows of a step, and the fewest that are held out."""
MODELS = {"tiny": ("bert-tiny-mlm", 3e-4), "minilm": ("all-MiniLM-L6-v2", 1e-4)}
"""Folders of `.cache/real`, and learning rates."""


def settings(side: str) -> dict[str, Any]:
    """Of `[sync]`, as a recipe has them."""
    mode, *given = side.split(",")
    return {"mode": mode} | {key: json.loads(value) for key, value in (one.split("=") for one in given)}


def worker(mode: str, size: str, rows: int, epochs: int, seed: int, out: Path) -> None:
    """Train, evaluate, and let rank 0 write the loss."""
    import torch
    from movie_snippets import LABELS, MINILM, WARMUP, Quiet, collate, samples  # both have BERT's vocabulary

    from biject.config.sync import SyncConfig
    from biject.events import listening
    from biject.pretrained import load
    from biject.train import ranks
    from biject.train.trainer import Trainer

    torch.set_num_threads(1)
    ranks.start()
    name, rate = MODELS[size]
    data = samples()
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0)).tolist()
    held, trained = order[:HELD_OUT] + order[HELD_OUT + rows :], order[HELD_OUT : HELD_OUT + rows]
    with listening(Quiet()):
        torch.manual_seed(seed)
        model = load(MINILM.with_name(name), head="seqcls", new_head={"labels": LABELS})
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        trainer = Trainer(
            model, collate=collate, lr=rate, warmup=WARMUP, seed=seed, progress=False,
            sync=SyncConfig(**{"anchor": 4, **settings(mode)}),
        )  # fmt: skip
        result = trainer.fit([data[i] for i in trained], batch_size=BATCH // ranks.count(), epochs=epochs)
        found = trainer.evaluate([data[i] for i in held])
    if ranks.rank() == 0:
        out.write_text(
            json.dumps({"loss": found["loss"], "meetings": len(result.losses), "steps": result.steps})
        )


def run(mode: str, size: str, count: int, *numbers: int) -> dict[str, Any]:
    """The loss after a run of so many processes."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "found.json"
        start = (
            [] if count == 1 else ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", count]
        )
        what = [Path(__file__), "--worker", mode, "--size", size, "--numbers", *numbers, "--out", out]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
        command = [sys.executable, *start, *what]
        subprocess.run(
            [str(part) for part in command], env=environment, check=True, stderr=subprocess.DEVNULL
        )
        found: dict[str, Any] = json.loads(out.read_text())
        return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=MODELS, default="tiny")
    parser.add_argument("--rows", type=int, default=8000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--sides", nargs="*", default=["cadence", "async"])
    parser.add_argument("--worker")
    parser.add_argument("--numbers", type=int, nargs="*")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.worker:
        rows, epochs, seed = given.numbers
        worker(given.worker, given.size, rows, epochs, seed, given.out)
        return
    print(f"{given.size}, {given.rows} rows, {given.epochs} epochs; loss on the rows that are left")
    modes = ("one", *given.sides)
    losses: dict[str, list[float]] = {mode: [] for mode in modes}
    for seed in range(given.first_seed, given.first_seed + given.seeds):
        line = f"seed {seed}:"
        for mode in modes:
            numbers = (given.rows, given.epochs, seed)
            found = run("step" if mode == "one" else mode, given.size, 1 if mode == "one" else 2, *numbers)
            losses[mode].append(found["loss"])
            apart = found["loss"] / losses["one"][-1] - 1
            line += f"  {mode} {found['loss']:.4f} ({apart:+.2%}, {found['meetings']} meetings)"
        print(line, flush=True)
    one = statistics.mean(losses["one"])
    for mode in modes:
        mean, spread = statistics.mean(losses[mode]), statistics.pstdev(losses[mode])
        print(
            f"{mode}: {mean:.4f}, standard deviation {spread / mean:.2%}, "
            f"mean {mean / one - 1:+.2%} of one process"
        )


if __name__ == "__main__":
    main()
