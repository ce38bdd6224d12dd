"""Evaluations give sentence-transformers' numbers, and training's metrics are those of the evaluators."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from biject.data.columns import ColumnCollator
from biject.data.features import build_dataset
from biject.errors import BijectError
from biject.tasks.encoder import EmbeddingModel
from biject.tasks.evaluators import EmbeddingSimilarityEvaluator, InformationRetrievalEvaluator
from biject.tasks.metrics_embed import EmbedMetrics
from biject.tasks.metrics_rerank import ranking_scores
from biject.tasks.retrieval import Depths, ranking, retrieval_scores
from parity.embeddings.conftest import opened

Wrap = Callable[..., Path]
WORDS = ["paris", "is", "capital", "of", "france", ".", "the", "a", "b", "c", "d", "e"]


def text(seed: int) -> str:
    rng = np.random.default_rng(seed)
    return " ".join(rng.choice(WORDS, rng.integers(2, 9)))


def theirs() -> Any:
    return pytest.importorskip("sentence_transformers.sentence_transformer.evaluation")


def test_similarity(wrapped: Wrap) -> None:
    folder = wrapped("bert")
    first, second = [text(i) for i in range(30)], [text(i + 100) for i in range(30)]
    scores = [(i * 7 % 10) / 9 for i in range(30)]
    ours = EmbeddingSimilarityEvaluator(first, second, scores, name="sts")(
        EmbeddingModel.from_pretrained(folder)
    )
    hers = theirs().EmbeddingSimilarityEvaluator(first, second, scores, name="sts")(opened(folder))
    assert set(ours) == set(hers)
    for name, value in ours.items():
        assert abs(value - hers[name]) <= 1e-6, name
    with pytest.raises(BijectError, match="as many texts"):
        EmbeddingSimilarityEvaluator(first, second[:-1], scores)(EmbeddingModel.from_pretrained(folder))


def test_retrieval(wrapped: Wrap) -> None:
    """All metrics; documents that are the same tie, and are ranked by their names."""
    folder = wrapped("bert")
    queries = {f"q{i}": text(i) for i in range(20)}
    corpus = {f"d{i}": text(1000 + i % 35) for i in range(60)}
    rng = np.random.default_rng(0)
    relevant = {f"q{i}": {f"d{j}" for j in rng.choice(60, 1 + i % 4, replace=False)} for i in range(18)}
    ours = InformationRetrievalEvaluator(queries, corpus, relevant)(EmbeddingModel.from_pretrained(folder))
    hers = theirs().InformationRetrievalEvaluator(queries, corpus, relevant)(opened(folder))
    assert set(ours) == set(hers)
    for name, value in ours.items():
        assert abs(value - hers[name]) <= 1e-9, name
    assert 0 < ours["cosine_recall@10"] < 1
    with pytest.raises(BijectError, match="no document of any query"):
        InformationRetrievalEvaluator(queries, corpus, {})(EmbeddingModel.from_pretrained(folder))


def test_ranks_do_not_depend_on_how_documents_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    import biject.tasks.retrieval as module

    generator = torch.Generator().manual_seed(0)
    queries, documents = torch.randn(7, 4, generator=generator), torch.randn(50, 4, generator=generator)
    documents[30:40] = documents[:10]
    names = [f"{(i * 13) % 50:02d}" for i in range(50)]
    whole = ranking(queries, documents, names, 10)
    monkeypatch.setattr(module, "_CHUNK", 7)
    assert ranking(queries, documents, names, 10) == whole


def test_scores_by_hand() -> None:
    found = retrieval_scores(
        [[3, 1, 2], [5, 6, 7]], [{1, 9}, {5}], Depths(precision_recall=(1, 3), accuracy=(1,))
    )
    assert found["accuracy@1"] == 0.5
    assert found["recall@3"] == 0.75
    assert found["mrr@10"] == 0.75
    assert abs(found["ndcg@10"] - (1 / np.log2(3) / (1 + 1 / np.log2(3)) + 1) / 2) <= 1e-12


def test_training_metrics_are_the_evaluators(wrapped: Wrap) -> None:
    """Of pairs with an anchor and a text that come twice, batch by batch."""
    folder = wrapped("bert")
    model = EmbeddingModel.from_pretrained(folder)
    rows = [{"anchor": text(i), "positive": text(200 + i), "negative": text(400 + i)} for i in range(25)]
    rows[7]["anchor"], rows[9]["positive"] = rows[3]["anchor"], rows[2]["negative"]
    built = build_dataset(rows, "embed", model.tokenizer)
    metrics = EmbedMetrics("triplets", model.sentence, model.model)
    collate = ColumnCollator.of(model.tokenizer)
    for at in range(0, 25, 8):
        batch = collate([built.dataset[i] for i in range(at, min(25, at + 8))])
        given = {k: v for k, v in batch.items() if k in ("input_ids", "attention_mask", "token_type_ids")}
        with torch.no_grad():
            metrics.update(model.model(**given), batch)
    queries = {row["anchor"]: row["anchor"] for row in rows}
    documents = dict.fromkeys(row[name] for row in rows for name in ("positive", "negative"))
    relevant: dict[str, set[str]] = {}
    for row in rows:
        relevant.setdefault(row["anchor"], set()).add(row["positive"])
    expected = InformationRetrievalEvaluator(queries, {name: name for name in documents}, relevant)(model)
    for name, value in metrics.result().items():
        assert abs(value - expected[f"cosine_{name}"]) <= 1e-9, name


def test_rerankers_metrics() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(1)
    scores, right = rng.integers(0, 12, 60) / 10.0, rng.random(60) < 0.3
    queries = np.repeat(np.arange(6.0), 10)
    right[queries == 2] = False
    found = ranking_scores(scores, right, queries)
    kept = [queries == q for q in range(6) if q != 2]
    precision = np.mean([sklearn.average_precision_score(right[q], scores[q]) for q in kept])
    gains = np.mean([sklearn.ndcg_score([right[q]], [scores[q]], k=10) for q in kept])
    assert abs(found["map"] - precision) <= 1e-12
    assert abs(found["ndcg@10"] - gains) <= 1e-12
    order = [right[q][np.argsort(-scores[q], kind="stable")] for q in kept]
    assert abs(found["mrr@10"] - np.mean([1 / (1 + list(o).index(True)) for o in order])) <= 1e-12
