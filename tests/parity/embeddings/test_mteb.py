"""An embedder as mteb calls one. The package itself, where it is installed, judges: it is no dependency."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from biject.errors import BijectError
from biject.tasks.encoder import EmbeddingModel
from biject.tasks.evaluators import EmbeddingSimilarityEvaluator, InformationRetrievalEvaluator
from biject.tasks.mteb import MTEBEncoder, task_result, write_result
from parity.embeddings.conftest import opened
from parity.embeddings.test_evaluators import text

Wrap = Callable[..., Path]
HERE = {"hf_split": "test", "hf_subset": "default"}


def encoder(folder: Path, **settings: Any) -> MTEBEncoder:
    return MTEBEncoder(EmbeddingModel.from_pretrained(folder, **settings), name="ours/tiny")


def test_batches_and_prompts(wrapped: Wrap) -> None:
    """The most special prompt first; the model's own names for queries and documents last."""
    prompts = {"STS": "a ", "Law-query": "b ", "Retrieval-document": "c ", "query": "the ", "passage": "is "}
    one = encoder(wrapped("bert"), prompts=prompts)
    texts = [text(i) for i in range(7)]
    batches = [{"text": texts[:4], "id": ["x"] * 4}, {"text": texts[4:]}]
    for name, kind, prompt_type, prompt in (
        ("Any", "STS", None, "a "),
        ("Law", "Retrieval", "query", "b "), ("Law", "Retrieval", "document", "c "),
        ("Other", "Retrieval", "query", "the "), ("Other", "Clustering", "document", ""),
        ("Other", "Clustering", None, ""),
    ):  # fmt: skip
        typed = None if prompt_type is None else SimpleNamespace(value=prompt_type)
        task = SimpleNamespace(name=name, type=kind)
        found = one.encode(batches, task_metadata=task, prompt_type=typed, batch_size=3, **HERE)
        expected = one.model.encode(texts, prompt=prompt or one.model.prompts["passage"]) if (
            prompt or prompt_type
        ) else one.model.encode(texts)  # fmt: skip
        assert np.abs(found - expected).max() <= 2e-6, (name, kind, prompt_type)
    with pytest.raises(BijectError, match="Only texts"):
        one.encode([{"image": [1]}], task_metadata=task, **HERE)
    with pytest.raises(BijectError, match="organisation/model"):
        MTEBEncoder(one.model, name="tiny")


def test_results(wrapped: Wrap, tmp_path: Path) -> None:
    model = EmbeddingModel.from_pretrained(wrapped("bert"))
    texts = [text(i) for i in range(12)]
    pairs = EmbeddingSimilarityEvaluator(texts, texts[::-1], [i / 12 for i in range(12)])(model)
    found = task_result(pairs, task_name="Ours", seconds=1.5)
    (record,) = found["scores"]["test"]
    assert record["main_score"] == record["cosine_spearman"] == pairs["spearman_cosine"]
    queries, corpus = {"q": texts[0]}, {f"d{i}": one for i, one in enumerate(texts)}
    search = InformationRetrievalEvaluator(queries, corpus, {"q": {"d0"}})(model)
    (record,) = task_result(search, task_name="Search")["scores"]["test"]
    assert record["main_score"] == record["ndcg_at_10"] == search["cosine_ndcg@10"]
    path = write_result(tmp_path, found, name="ours/tiny", revision="main")
    assert path.relative_to(tmp_path).as_posix() == "results/ours__tiny/main/Ours.json"
    assert json.loads(path.read_text())["task_name"] == "Ours"
    for wrong in ("../x", "a/b", ""):
        with pytest.raises(BijectError, match="letters"):
            write_result(tmp_path, {**found, "task_name": wrong}, name="ours/tiny", revision="main")
    with pytest.raises(BijectError, match="main_score"):
        task_result(pairs, task_name="Ours", main_score="ndcg_at_10")


def test_mteb_itself(wrapped: Wrap, tmp_path: Path) -> None:
    """Its tasks that need no network: the scores that sentence-transformers gets; its reader of results."""
    mteb = pytest.importorskip("mteb")
    from mteb.mocks.mock_tasks.retrieval import MockRetrievalTask
    from mteb.mocks.mock_tasks.sts import MockSTSTask

    theirs = wrapped("bert", prompts={"query": "the "})
    tasks = [MockSTSTask(), MockRetrievalTask()]
    cache = mteb.ResultCache(tmp_path / "cache")
    ours = mteb.evaluate(encoder(theirs), tasks, cache=cache, co2_tracker=False)
    hers = mteb.evaluate(opened(theirs), tasks, cache=None, co2_tracker=False)
    for mine, other in zip(ours.task_results, hers.task_results, strict=True):
        assert mine.task_name == other.task_name
        for split, records in other.scores.items():
            for a, b in zip(mine.scores[split], records, strict=True):
                numbers = {k: v for k, v in b.items() if isinstance(v, float)}
                assert len(numbers) > 5
                for name, value in numbers.items():
                    np.testing.assert_equal(
                        a[name], value, err_msg=name
                    )  # to the bit; some are NaN on both sides
    written = sorted((tmp_path / "cache").rglob("Mock*.json"))
    assert len(written) == 2
    model = EmbeddingModel.from_pretrained(theirs)
    texts = [text(i) for i in range(12)]
    pairs = EmbeddingSimilarityEvaluator(texts, texts[::-1], [(i * 5 % 12) / 12 for i in range(12)])(model)
    own = task_result(pairs, task_name="Ours", seconds=1.5)
    path = write_result(tmp_path / "own", own, name="ours/tiny", revision="main")
    read = mteb.results.TaskResult.from_disk(path)
    assert read.get_score() == pairs["spearman_cosine"]
    (back,) = read.to_dict()["scores"]["test"]
    assert {name: back[name] for name in ("languages", "hf_subset")} == {
        "languages": ["eng-Latn"],
        "hf_subset": "default",
    }
    assert back["cosine_pearson"] == pairs["pearson_cosine"]
