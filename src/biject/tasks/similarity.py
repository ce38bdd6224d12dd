"""How alike vectors are, and which are nearest.

Source: sentence-transformers 6.2, util/similarity.py and util/retrieval.py (semantic_search).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from biject.errors import ConfigError
from biject.tasks.inputs import require
from biject.tasks.losses.common import cos_sim, pairwise_cos_sim

Similarity = Literal["cosine", "dot", "euclidean", "manhattan"]
Vectors = Tensor | npt.NDArray[Any] | Sequence[Tensor] | Sequence[npt.NDArray[Any]]
Score = Callable[[Tensor, Tensor], Tensor]


_KINDS: dict[str, tuple[Score, Score]] = {
    "cosine": (cos_sim, pairwise_cos_sim),
    "dot": (lambda a, b: a @ b.T, lambda a, b: (a * b).sum(-1)),
    "euclidean": (lambda a, b: -torch.cdist(a, b, p=2.0), lambda a, b: -(a - b).square().sum(-1).sqrt()),
    "manhattan": (lambda a, b: -torch.cdist(a, b, p=1.0), lambda a, b: -(a - b).abs().sum(-1)),
}
"""Of (A, D) and (B, D) every pair's score, and of two (A, D) each row's with the row in its place."""


def similarity(kind: str, first: Vectors, second: Vectors) -> Tensor:
    """All pairs, (A, B): cosines, products, or distances below 0.

    Raises:
        ConfigError: There is no such kind.
    """
    return _scores(kind)[0](as_rows(first), as_rows(second))


def pairwise_similarity(kind: str, first: Vectors, second: Vectors) -> Tensor:
    """The same of each row with the row in its place, (A,).

    Raises:
        ConfigError: There is no such kind.
    """
    return _scores(kind)[1](as_rows(first), as_rows(second))


def semantic_search(
    query_embeddings: Vectors,
    corpus_embeddings: Vectors,
    query_chunk_size: int = 100,
    corpus_chunk_size: int = 500_000,
    top_k: int = 10,
    score_function: Score | None = None,
) -> list[list[dict[str, int | float]]]:
    """For each query its nearest vectors of a corpus, best first: `corpus_id` and `score`.

    Args:
        query_embeddings: (Q, D), or (D,) for one.
        corpus_embeddings: (N, D).
        query_chunk_size: Queries that are compared at once.
        corpus_chunk_size: Vectors of the corpus that are compared at once.
        top_k: How many are given.
        score_function: Of two tensors, (Q, D) and (N, D), all pairs' scores; left out, cosines.

    Raises:
        InputError: A number below 1.
    """
    for name, value in (("top_k", top_k), ("query_chunk_size", query_chunk_size),
                        ("corpus_chunk_size", corpus_chunk_size)):  # fmt: skip
        require(value >= 1, f"`{name}` must be at least 1; found {value}.")
    corpus_ND = as_rows(corpus_embeddings)
    queries_QD = as_rows(query_embeddings).to(corpus_ND.device)
    found: list[list[dict[str, int | float]]] = []
    for queries in torch.split(queries_QD, query_chunk_size) if len(queries_QD) else ():
        best_QK, place_QK = queries.new_empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.long)
        for start in range(0, len(corpus_ND), corpus_chunk_size):
            scores = (score_function or cos_sim)(queries, corpus_ND[start : start + corpus_chunk_size])
            top = scores.topk(min(top_k, scores.shape[1]), dim=1)
            both = torch.cat([best_QK, top.values], 1)
            places = torch.cat([place_QK, top.indices.cpu() + start], 1)
            kept = both.topk(min(top_k, both.shape[1]), dim=1)
            best_QK, place_QK = kept.values, places.gather(1, kept.indices.cpu())
        for scores_K, places_K in zip(best_QK.tolist(), place_QK.tolist(), strict=True):
            pairs = zip(places_K, scores_K, strict=True)
            found.append([{"corpus_id": place, "score": score} for place, score in pairs])
    return found


def as_rows(given: Vectors) -> Tensor:
    """Vectors as (N, D) floats: tensors, arrays or lists of them."""
    if not isinstance(given, Tensor | np.ndarray) and len(given):
        given = torch.stack([torch.as_tensor(one) for one in given])
    given = np.ascontiguousarray(given) if isinstance(given, np.ndarray) else given  # rows[::-1], too
    rows = torch.as_tensor(given).float()
    return rows.unsqueeze(0) if rows.dim() == 1 else rows


def normalized(vectors_ND: Tensor) -> Tensor:
    """The same with length 1."""
    return F.normalize(vectors_ND, dim=1)


def _scores(kind: str) -> tuple[Score, Score]:
    if kind not in _KINDS:
        raise ConfigError(f"The similarity {kind!r} is not computed; there are {', '.join(_KINDS)}.")
    return _KINDS[kind]
