"""One rank: trains transformers' own class for a few steps. `torchrun fallback_worker.py FOLDER OUT`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from biject.fallback.loading import load_fallback
from biject.train import ranks
from biject.train.trainer import Trainer

STEPS, SAMPLES = 4, 32


def samples() -> list[dict[str, Any]]:
    """Texts of the same length, so that a batch's mean is the mean of its halves' in any cut."""
    draw = torch.Generator().manual_seed(0)
    return [
        {"input_ids": torch.randint(5, 60, (12,), generator=draw).tolist(), "labels": index % 2}
        for index in range(SAMPLES)
    ]


def run(folder: Path, *, batch_size: int) -> dict[str, Any]:
    """Losses, and the weights as one list."""
    torch.manual_seed(0)
    model = load_fallback(folder, head="seqcls", new_head={"labels": ["no", "yes"]}, dtype=torch.float32)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0

    def collate(some: list[dict[str, Any]]) -> dict[str, Any]:
        batch = {key: torch.tensor([one[key] for one in some]) for key in ("input_ids", "labels")}
        return {**batch, "attention_mask": torch.ones_like(batch["input_ids"])}

    trainer = Trainer(model, batch_size=batch_size, lr=1e-3, max_steps=STEPS, collate=collate, seed=3)
    found = trainer.fit(samples())
    weights = torch.cat([one.detach().reshape(-1) for one in model.parameters()])
    return {"losses": found.losses, "weights": weights.tolist()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    ranks.start()
    done = run(Path(sys.argv[1]), batch_size=4)
    (Path(sys.argv[2]) / f"rank-{ranks.rank()}.json").write_text(json.dumps(done))
