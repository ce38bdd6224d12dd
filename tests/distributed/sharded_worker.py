"""One rank of a model sharded by FSDP2: `torchrun sharded_worker.py FOLDER OUT`; a step, and both exports."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp import fully_shard

from biject.pretrained import PretrainedModel as Model
from biject.pretrained import load


def batch(model: Model) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 90, (4, 24), generator=rng)
    mask = (torch.arange(24) < torch.tensor([24, 5, 9, 16])[:, None]).long()
    labels = torch.tensor([0, 1, 1, 0])
    if model.head_name in ("mlm", "causal"):
        labels = ids.masked_fill(mask == 0, -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def shard(model: Model) -> None:
    """Every layer, the embeddings and the head by themselves; tied ones are one group, as torch wants it."""
    for layer in model.layers:
        fully_shard(layer)
    output = model.head.output_matrix
    if output is not None and output.weight is model.embed.tokens.weight:
        fully_shard([model.embed, model.head])
    else:
        fully_shard(model.embed)
        fully_shard(model.head)
    fully_shard(model)


def run(model: Model, out: Path) -> dict[str, Any]:
    """Export, one training step, export again."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-3
    )  # FSDP2: before a forward pass gathers the root
    model.save_pretrained(out / "before")
    with torch.no_grad():
        given = {name: value for name, value in batch(model).items() if name != "labels"}
        logits = model(**given).logits
    model.train()
    loss = model(**batch(model)).loss
    loss.backward()
    optimizer.step()
    model.save_pretrained(out / "after")
    return {"loss": float(loss.detach()), "logits": logits.double().sum().item()}


def main() -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    for source in sorted(folder.iterdir()):
        model = load(source)
        shard(model)
        found = run(model, out / source.name)
        (out / source.name / f"rank-{dist.get_rank()}.json").write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
