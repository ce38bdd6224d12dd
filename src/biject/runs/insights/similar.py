"""Embedders and rerankers: how their scores of held-out pairs follow the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from biject.runs.insights.common import Held, interval
from biject.tasks.losses.common import pairwise_cos_sim
from biject.tasks.metrics_embed import EmbedMetrics
from biject.tasks.scores import spearman

_MOST_POINTS = 500
Floats = npt.NDArray[np.float64]


def look(held: Held) -> dict[str, Any]:
    """Truths and scores of pairs, and how sure their correlation is; of other data nothing."""
    objective = held.prepared.objective
    assert objective is not None
    metrics: Any = objective.metrics()
    for batch in held.evaluator.batches([held.dataset[i] for i in held.chosen]):
        _, outputs = held.evaluator.call(batch)
        metrics.update(outputs[0] if len(outputs) == 1 else outputs, batch)
    if isinstance(metrics, EmbedMetrics):
        return _pairs(*_cosines(metrics)) if metrics.kind == "scored" else {}
    scores, truth, _ = torch.cat(metrics.rows).numpy().T
    return _pairs(scores, truth)


def _cosines(metrics: EmbedMetrics) -> tuple[Floats, Floats]:
    rows = torch.cat(metrics.rows, dim=1)
    return pairwise_cos_sim(rows[0], rows[1]).double().numpy(), torch.cat(metrics.labels).double().numpy()


def _pairs(scores: Floats, truth: Floats) -> dict[str, Any]:
    def correlation(chosen: npt.NDArray[np.int64]) -> float:
        if len(np.unique(truth[chosen])) < 2 or len(np.unique(scores[chosen])) < 2:
            return 0.0
        return spearman(truth[chosen], scores[chosen])

    points = [[float(t), float(s)] for t, s in zip(truth[:_MOST_POINTS], scores, strict=False)]
    return {"intervals": {"spearman": interval(correlation, len(truth), share=False)}, "points": points}
