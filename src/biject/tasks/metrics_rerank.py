"""Metrics of rerankers: how scores follow the truth, and how documents of one query are ranked.

Source: sentence-transformers 6.2, cross_encoder/evaluation/reranking.py and correlation.py; scikit-learn 1.7,
average_precision_score and ndcg_score, where documents of one score share their places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from biject.data.rerank import QUERY
from biject.tasks.scores import pearson, spearman

Floats = npt.NDArray[np.float64]
RERANK_NAMES = ("pearson", "spearman", "mrr@10", "ndcg@10", "map")
"""The last three over queries with a right document and a wrong one; 0 where there are none. A document is
right from a score of 0.5 on.
"""


class RerankMetrics:
    """Collects scores."""

    names = RERANK_NAMES

    def __init__(self) -> None:
        self.rows: list[Tensor] = []

    def update(self, outputs: Any, batch: Mapping[str, Tensor]) -> None:
        """Keep (B, 3): score, truth, query."""
        scores_B = outputs.logits.reshape(-1)
        columns = (scores_B, batch["labels"], batch[QUERY])
        self.rows.append(torch.stack([column.double().cpu() for column in columns], dim=1))

    def merge(self, later: RerankMetrics) -> None:
        """Add another's rows behind."""
        self.rows += later.rows

    def result(self) -> dict[str, float]:
        """The metrics by name."""
        scores, truth, queries = torch.cat(self.rows).numpy().T
        found = {"pearson": pearson(truth, scores), "spearman": spearman(truth, scores)}
        return found | ranking_scores(scores, truth >= 0.5, queries)


def ranking_scores(scores: Floats, right: npt.NDArray[np.bool_], queries: Floats) -> dict[str, float]:
    """`mrr@10`, `ndcg@10` and `map`, each the mean over the queries that have something to rank."""
    order = np.argsort(queries, kind="stable")
    ends = np.flatnonzero(np.diff(queries[order])) + 1
    values: list[tuple[float, float, float]] = []
    for rows in np.split(order, ends):
        good = right[rows]
        if good.any() and not good.all():
            values.append(
                (_mrr(scores[rows], good), _ndcg(scores[rows], good), _precision(scores[rows], good))
            )
    means: Sequence[float] = np.mean(values, axis=0).tolist() if values else [0.0, 0.0, 0.0]
    return dict(zip(("mrr@10", "ndcg@10", "map"), means, strict=True))


def _mrr(scores: Floats, good: npt.NDArray[np.bool_]) -> float:
    first = good[np.argsort(-scores, kind="stable")[:10]]
    return 1 / (int(first.argmax()) + 1) if first.any() else 0.0


def _ndcg(scores: Floats, good: npt.NDArray[np.bool_]) -> float:
    """Documents of one score share the gains of their places."""
    discount = 1 / np.log2(np.arange(len(scores)) + 2)
    discount[10:] = 0
    _, place, counts = np.unique(-scores, return_inverse=True, return_counts=True)
    share = np.add.reduceat(discount, np.cumsum(counts) - counts) / counts
    return float((share[place] * good).sum() / discount[: int(good.sum())].sum())


def _precision(scores: Floats, good: npt.NDArray[np.bool_]) -> float:
    """Average precision: at each score that a right document has."""
    levels = np.unique(scores[good])
    above = [scores >= level for level in levels]
    pairs = zip(levels, above, strict=True)
    parts = [(good & (scores == level)).sum() * (good & up).sum() / up.sum() for level, up in pairs]
    return float(sum(parts) / good.sum())
