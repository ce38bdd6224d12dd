"""Cosines of many vectors are computed a part at a time: the memory is bounded, and the results the same.

The vectors have 16 coordinates of -1 or 1: their cosines are exact and tie often, however they are computed.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import biject.tasks.retrieval as module
from biject.tasks.losses.common import cos_sim
from biject.tasks.metrics_embed import EmbedMetrics
from biject.tasks.retrieval import nearest, ranking

MOST = 300


def signs(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, (count, 16), generator=generator) * 2.0 - 1.0


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many cosines each product made, of which none may have more than `MOST`."""
    found: list[int] = []

    def counting(one: Tensor, two: Tensor) -> Tensor:
        found.append(len(one) * len(two))
        return cos_sim(one, two)

    monkeypatch.setattr(module, "cos_sim", counting)
    monkeypatch.setattr(module, "_COSINES", MOST)
    return found


@pytest.mark.parametrize("documents", [1, 40, 130])
def test_many_queries_are_ranked_a_part_at_a_time(
    sizes: list[int], monkeypatch: pytest.MonkeyPatch, documents: int
) -> None:
    monkeypatch.setattr(module, "_CHUNK", 70)
    queries, texts = signs(95, 0), signs(documents, 1)
    names = [f"{(i * 37) % documents:03d}" for i in range(documents)]
    cosines = cos_sim(queries, texts).tolist()
    wanted = [sorted(range(documents), key=lambda i: (-row[i], names[i]))[:10] for row in cosines]
    assert ranking(queries, texts, names, 10) == wanted
    assert sum(sizes) == 95 * documents
    assert max(sizes) <= MOST


@pytest.mark.parametrize("count", [1, 2, 17, 120, 400])
def test_the_nearest_other_text_is_found_a_part_at_a_time(sizes: list[int], count: int) -> None:
    rows = signs(count, 2)
    whole = cos_sim(rows, rows).fill_diagonal_(-torch.inf).argmax(1)
    assert torch.equal(nearest(rows), whole)
    assert sum(sizes) == count * count
    assert max(sizes) <= max(MOST, count)


def test_the_accuracy_of_labelled_texts(sizes: list[int]) -> None:
    sentence: Any = None
    metrics = EmbedMetrics("labelled", sentence, nn.Identity())
    rows, labels = signs(90, 3), torch.arange(90) % 4
    metrics.rows, metrics.labels = [rows[None, :50], rows[None, 50:]], [labels[:50], labels[50:]]
    near = cos_sim(rows, rows).fill_diagonal_(-torch.inf).argmax(1)
    assert metrics.result() == {"accuracy": float((labels[near] == labels).float().mean())}
    assert max(sizes) <= MOST
