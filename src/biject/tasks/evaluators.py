"""Evaluations of embeddings by sentence-transformers' names, with its numbers.

Source: sentence-transformers 6.2, evaluation/embedding_similarity.py and information_retrieval.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from biject.errors import InputError
from biject.tasks.encoder import EmbeddingModel
from biject.tasks.losses.common import pairwise_cos_sim
from biject.tasks.retrieval import Depths, retrieve
from biject.tasks.scores import pearson, spearman


@dataclass(frozen=True)
class EmbeddingSimilarityEvaluator:
    """How cosines of pairs follow their scores.

    Attributes:
        sentences1: The first texts.
        sentences2: The second texts.
        scores: One a pair.
        batch_size: Texts in a call of the model.
        name: Put before the metrics' names.
    """

    sentences1: Sequence[str]
    sentences2: Sequence[str]
    scores: Sequence[float]
    batch_size: int = 16
    name: str = ""

    def __call__(self, model: EmbeddingModel) -> dict[str, float]:
        """`pearson_cosine` and `spearman_cosine`.

        Raises:
            InputError: Not as many of one as of the others.
        """
        sizes = {len(self.sentences1), len(self.sentences2), len(self.scores)}
        if len(sizes) != 1 or not self.scores:
            raise InputError(f"Expected as many texts on both sides as scores, found {sorted(sizes)}.")
        first, second = (
            model.encode(list(texts), batch_size=self.batch_size, convert_to_tensor=True)
            for texts in (self.sentences1, self.sentences2)
        )
        ours = pairwise_cos_sim(first, second).cpu().numpy().astype(np.float64)
        truth = np.asarray(self.scores, dtype=np.float64)
        found = {"pearson_cosine": pearson(truth, ours), "spearman_cosine": spearman(truth, ours)}
        return _prefixed(found, self.name)


@dataclass(frozen=True)
class InformationRetrievalEvaluator:
    """How well queries find their documents.

    Attributes:
        queries: Texts by name.
        corpus: Documents by name.
        relevant_docs: Names of the right documents of each query.
        depths: How many documents each metric looks at.
        batch_size: Texts in a call of the model.
        name: Put before the metrics' names.
    """

    queries: Mapping[str, str]
    corpus: Mapping[str, str]
    relevant_docs: Mapping[str, Collection[str]]
    depths: Depths = field(default_factory=Depths)
    batch_size: int = 32
    name: str = ""

    def __call__(self, model: EmbeddingModel) -> dict[str, float]:
        """`cosine_recall@10` and so on.

        Raises:
            InputError: No query has a document.
        """
        asked = {name: text for name, text in self.queries.items() if self.relevant_docs.get(name)}
        if not asked or not self.corpus:
            raise InputError("`relevant_docs` names no document of any query.")
        how: dict[str, Any] = {"batch_size": self.batch_size, "convert_to_tensor": True}
        queries = dict(zip(asked, model.encode_query(list(asked.values()), **how), strict=True))
        corpus = dict(zip(self.corpus, model.encode_document(list(self.corpus.values()), **how), strict=True))
        found = retrieve(queries, corpus, self.relevant_docs, self.depths)
        return _prefixed({f"cosine_{name}": value for name, value in found.items()}, self.name)


def _prefixed(found: Mapping[str, float], name: str) -> dict[str, float]:
    return {f"{name}_{key}" if name else key: value for key, value in found.items()}
