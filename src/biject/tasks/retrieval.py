"""How well vectors find what is relevant: accuracy, precision, recall, MRR, nDCG and MAP at k.

Source: sentence-transformers 6.2, evaluation/information_retrieval.py; documents of equal score are ranked by
their names.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from biject.tasks.losses.common import cos_sim

_CHUNK = 50_000
"""Documents that are compared at once."""
_COSINES = 2**26
"""Of queries with documents, at once: a quarter of a gigabyte in float32."""


@dataclass(frozen=True, kw_only=True)
class Depths:
    """How many documents are looked at, for each metric."""

    accuracy: tuple[int, ...] = (1, 3, 5, 10)
    precision_recall: tuple[int, ...] = (1, 3, 5, 10)
    mrr: tuple[int, ...] = (10,)
    ndcg: tuple[int, ...] = (10,)
    map: tuple[int, ...] = (100,)

    @property
    def most(self) -> int:
        """The largest of all."""
        return max(*self.accuracy, *self.precision_recall, *self.mrr, *self.ndcg, *self.map)


def ranking(queries_QD: Tensor, documents_ND: Tensor, names: Sequence[str], most: int) -> list[list[int]]:
    """For each query the documents of the largest cosines, best first, by their places."""
    place = np.empty(len(names), dtype=np.int64)
    place[sorted(range(len(names)), key=lambda i: names[i])] = np.arange(len(names))
    found: list[list[tuple[float, int, int]]] = [[] for _ in range(len(queries_QD))]
    for start in range(0, len(documents_ND), _CHUNK):
        some_ND = documents_ND[start : start + _CHUNK]
        for part in _parts(len(queries_QD), len(some_ND)):
            scores_QN = cos_sim(queries_QD[part.start : part.stop], some_ND).cpu()
            count = min(most, scores_QN.shape[1])
            lowest_Q = scores_QN.topk(count, dim=1).values[:, -1:]
            for row, kept in enumerate(scores_QN >= lowest_Q):  # all that tie with the last, too
                at = kept.nonzero().squeeze(1)
                hits = zip(scores_QN[row, at].tolist(), at.tolist(), strict=True)
                new = [(-value, int(place[start + i]), start + i) for value, i in hits]
                query = part.start + row
                found[query] = sorted([*found[query], *new])[:most]
    return [[index for _, _, index in hits] for hits in found]


def nearest(rows_ND: Tensor) -> Tensor:
    """For each vector the place of the other one of the largest cosine, the first of equal ones; (N,)."""
    found = []
    for part in _parts(len(rows_ND), len(rows_ND)):
        near_QN = cos_sim(rows_ND[part.start : part.stop], rows_ND)
        near_QN.diagonal(part.start).fill_(-torch.inf)
        found.append(near_QN.argmax(1))
    return torch.cat(found)


def _parts(count: int, width: int) -> Iterator[range]:
    """Rows of a (count, width) matrix, as many at once as `_COSINES` allows."""
    size = max(1, _COSINES // max(1, width))
    return (range(start, min(start + size, count)) for start in range(0, count, size))


def retrieval_scores(
    ranked: Sequence[Sequence[int]], relevant: Sequence[Collection[int]], depths: Depths
) -> dict[str, float]:
    """The metrics by name: `recall@10` and so on, each the mean over the queries."""
    hits = [
        [document in good for document in documents] for documents, good in zip(ranked, relevant, strict=True)
    ]
    totals = [len(good) for good in relevant]
    both = list(zip(hits, totals, strict=True))
    out: dict[str, float] = {}
    for k in depths.accuracy:
        out[f"accuracy@{k}"] = _mean([float(any(found[:k])) for found in hits])
    for k in depths.precision_recall:
        out[f"precision@{k}"] = _mean([sum(found[:k]) / k for found in hits])
        out[f"recall@{k}"] = _mean([sum(found[:k]) / total for found, total in both])
    for k in depths.ndcg:
        out[f"ndcg@{k}"] = _mean([_dcg(found[:k]) / _dcg([True] * min(total, k)) for found, total in both])
    for k in depths.mrr:
        out[f"mrr@{k}"] = _mean(
            [next((1 / (i + 1) for i, hit in enumerate(f[:k]) if hit), 0.0) for f in hits]
        )
    for k in depths.map:
        out[f"map@{k}"] = _mean([_precisions(found[:k]) / min(k, total) for found, total in both])
    return out


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _dcg(hits: Sequence[bool]) -> float:
    return float(sum(hit / np.log2(i + 2) for i, hit in enumerate(hits)))


def _precisions(hits: Sequence[bool]) -> float:
    """The precision at each hit, added up."""
    total, right = 0.0, 0
    for place, hit in enumerate(hits):
        if hit:
            right += 1
            total += right / (place + 1)
    return total


def retrieve(
    queries: Mapping[str, Tensor],
    documents: Mapping[str, Tensor],
    relevant: Mapping[str, Collection[str]],
    depths: Depths,
) -> dict[str, float]:
    """The metrics of vectors by name; queries without a relevant document are left out."""
    asked = [name for name in queries if relevant.get(name)]
    names = list(documents)
    places = {name: i for i, name in enumerate(names)}
    ranked = ranking(
        torch.stack([queries[name] for name in asked]),
        torch.stack([documents[name] for name in names]),
        names,
        depths.most,
    )
    good = [{places.get(name, -1 - i) for i, name in enumerate(relevant[query])} for query in asked]
    return retrieval_scores(ranked, good, depths)
