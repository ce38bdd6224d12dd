"""Trains each source, sharded over several ranks: `torchrun sharded_trainer.py SOURCES OUT STEPS [START]`.

START: a folder of an earlier call whose checkpoints are gone on from; or `later`, for checkpoints that are
written while training goes on.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from biject.adapters.file import save_adapter
from biject.config.adapter import LoraConfig
from biject.config.recipe import TrainConfig
from biject.distributed.sharding import shard
from biject.pretrained import load
from biject.save import save_model
from biject.train import ranks
from biject.train.trainer import Trainer


class Texts:
    """Texts of 5 to 24 tokens."""

    def __init__(self, head: str) -> None:
        draw = torch.Generator().manual_seed(3)
        self.lengths = [5 + int(n) for n in torch.randint(0, 20, (60,), generator=draw)]
        ids = [torch.randint(5, 90, (length,), generator=draw) for length in self.lengths]
        self.samples = [
            {"ids": one, "labels": one if head != "seqcls" else i % 2} for i, one in enumerate(ids)
        ]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.samples[index]


def collate(samples: list[dict[str, Any]]) -> dict[str, Tensor]:
    pad = torch.nn.utils.rnn.pad_sequence
    ids = pad([sample["ids"] for sample in samples], batch_first=True)
    labels = [sample["labels"] for sample in samples]
    if isinstance(labels[0], Tensor):
        made = pad(labels, batch_first=True, padding_value=-100)
    else:
        made = torch.tensor(labels)
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": made}


def train(source: Path, out: Path, steps: int, start: Path | None, later: bool = False) -> dict[str, Any]:
    model = load(source)
    if source.name.endswith("-lora"):
        torch.manual_seed(0)
        model.add_adapter(LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
    if ranks.count() > 1:
        shard(model)
    if model.adapters is not None:
        save_adapter(model, out / "before", force=True)
    size = 8 // ranks.count()
    if start is not None:  # a run that goes on keeps its settings and its steps
        size = json.loads((start / "rank-0.json").read_text())["batch_size"]
    config = TrainConfig(
        batch_size=size, lr=1e-3, max_steps=steps, checkpoint_every=10, keep=9, schedule="constant",
        checkpoint_async=later,
    )  # fmt: skip
    data = Texts(str(model.head_name))
    first = start / "checkpoints" / "step-000010" if start is not None else False
    result = Trainer(model, config=config, collate=collate).fit(
        data, eval_dataset=[data[i] for i in range(9)], out=out, resume=first
    )
    (save_model if model.adapters is None else save_adapter)(model, out / "model", force=True)
    return {
        "losses": result.losses,
        "evaluation": [found["loss"] for found in result.history],
        "batch_size": size,
    }


def main() -> None:
    torch.set_num_threads(1)
    ranks.start()
    folder, out, steps = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    for source in sorted(folder.iterdir()):
        later = sys.argv[4:] == ["later"]
        start = Path(sys.argv[4]) / source.name if len(sys.argv) > 4 and not later else None
        found = train(source, out / source.name, steps, start, later)
        (out / source.name / f"rank-{ranks.rank()}.json").write_text(json.dumps(found))
    ranks.wait()


if __name__ == "__main__":
    main()
