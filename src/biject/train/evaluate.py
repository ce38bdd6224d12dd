"""Evaluation during training: token-weighted loss and metrics over a whole data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from biject.errors import ConfigError
from biject.tasks.metrics import Metrics
from biject.train import generators, ranks
from biject.train.batches import Collate, Sampler, to_device
from biject.train.loop import Step, Weigh


def evaluate(
    model: nn.Module,
    *,
    dataset: Sequence[Any],
    batch_size: int,
    device: torch.device,
    step: Step,
    weigh: Weigh,
    collate: Collate,
    metrics: Callable[[], Metrics] | None = None,
) -> dict[str, float]:
    """Mean loss over all items, and the metrics; every rank sees all samples, so that all agree."""
    collected = metrics() if metrics is not None else None
    sampler = Sampler(num_samples=len(dataset), batch_size=batch_size, shuffle=False)
    model.eval()
    lost = items = 0.0
    with torch.no_grad(), generators.kept():
        for shares in sampler.steps(0):
            batch = to_device(collate([dataset[i] for i in shares[0][0]]), device)
            weight = weigh(batch)
            if collected is not None:
                outputs = model(**batch)
                collected.update(outputs, batch)
                loss: Any = outputs.loss
            else:
                loss = step(model, batch)
            if isinstance(loss, tuple):
                lost, items = lost + float(loss[0]), items + float(loss[1])
            elif weight:
                lost, items = lost + float(loss) * weight, items + weight
    model.train()
    found = {"loss": lost / max(items, 1.0)}
    return ranks.same(found | (collected.result() if collected is not None else {}))


def better(found: dict[str, float], metric: str, best: float | None) -> bool:
    """Whether an evaluation beats the best; `-loss` means that smaller is better.

    Raises:
        ConfigError: the metric was not computed.
    """
    name = metric.lstrip("-")
    if name not in found:
        raise ConfigError(f"metric: {name!r} is not computed; there are {', '.join(found)}.")
    if best is None:
        return True
    return found[name] < best if metric.startswith("-") else found[name] > best
