"""Pairs of texts: how often the better one has the larger reward, and the pairs that are farthest from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from biject.data.pairs import PROMPT_LENGTH, REJECTED
from biject.runs.insights.common import Held, interval, most, shortened

_LETTERS = 400


def look(held: Held) -> dict[str, Any]:
    """Accuracy and margin with their intervals, and the pairs with the smallest margins."""
    objective = held.prepared.objective
    assert objective is not None
    metrics: Any = objective.metrics()
    for batch in held.evaluator.batches([held.dataset[i] for i in held.chosen]):
        _, outputs = held.evaluator.call(batch)
        metrics.update(outputs[0] if len(outputs) == 1 else outputs, batch)
    margins = torch.cat(metrics.parts)[:, 0].numpy()

    def accuracy(chosen: npt.NDArray[np.int64]) -> float:
        return float((margins[chosen] > 0).mean())

    def margin(chosen: npt.NDArray[np.int64]) -> float:
        return float(margins[chosen].mean())

    return {
        "intervals": {
            "accuracy": interval(accuracy, len(margins)),
            "margin": interval(margin, len(margins), share=False),
        },
        "examples": [
            {**_texts(held, held.chosen[i]), "margin": float(margins[i])} for i in most((-margins).tolist())
        ],
    }


def _texts(held: Held, index: int) -> dict[str, str]:
    sample, decode = held.dataset[index], held.prepared.tokenizer.decode
    start = sample.get(PROMPT_LENGTH, 0)

    def text(ids: Any) -> str:
        return shortened(decode(ids, skip_special_tokens=True), _LETTERS)

    sides = {"chosen": text(sample["input_ids"][start:]), "rejected": text(sample[REJECTED][start:])}
    return {"prompt": text(sample["input_ids"][:start]) if start else "", **sides}
