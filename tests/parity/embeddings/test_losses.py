"""Losses and their gradients by the vectors equal sentence-transformers' on the same vectors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from biject.config.embed import EmbedConfig
from biject.errors import BijectError
from biject.tasks import losses

TOLERANCE = 1e-6  # float32; sums are of the same terms, in the same order but for a few


def theirs() -> Any:
    return pytest.importorskip("sentence_transformers.sentence_transformer.losses")


def columns(count: int, *, rows: int = 12, seed: int = 0, length: float = 1.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = [length * torch.randn(rows, 16, generator=generator) for _ in range(count)]
    return [column.requires_grad_() for column in made]


def same(ours: Any, other: Any, count: int, labels: Tensor | None = None, **how: Any) -> None:
    """One number, and one gradient a column."""
    mine, hers = columns(count, **how), columns(count, **how)
    found, expected = ours(mine, labels), other(hers, labels)
    assert abs(float(found - expected)) <= TOLERANCE * max(1.0, abs(float(expected)))
    found.backward()
    expected.backward()
    for a, b in zip(mine, hers, strict=True):
        assert a.grad is not None
        assert b.grad is not None
        assert (a.grad - b.grad).abs().max() <= TOLERANCE
    assert max(float(a.grad.abs().max()) for a in mine if a.grad is not None) > 1e-4  # there is something


ALL = ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale": 50.0},
        {"directions": ALL},
        {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"},
    ],
)
@pytest.mark.parametrize("size", [None, 5])
def test_ranking(count: int, options: dict[str, Any], size: int | None) -> None:
    """With in-batch negatives, and with one and two hard ones; in slices, too."""
    other = theirs().MultipleNegativesRankingLoss(None, **options).compute_loss_from_embeddings
    ours: Any = losses.MultipleNegativesRankingLoss(**options)
    if size is not None:
        ours = losses.CachedMultipleNegativesRankingLoss(mini_batch_size=size, **options)
    same(ours, other, count)


SCORES = torch.tensor([0.1, 0.9, 0.5, 0.5, 0.0, 1.0, 0.2, 0.9, 0.3, 0.7, 0.4, 0.6])
CLASSES = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 0, 1])


@pytest.mark.parametrize("scale", [20.0, 1.0])
def test_cosent(scale: float) -> None:
    other = theirs().CoSENTLoss(None, scale=scale).compute_loss_from_embeddings
    same(losses.CoSENTLoss(scale=scale), other, 2, SCORES)


def test_cosine() -> None:
    same(
        losses.CosineSimilarityLoss(),
        theirs().CosineSimilarityLoss(None).compute_loss_from_embeddings,
        2,
        SCORES,
    )


@pytest.mark.parametrize("margin", [5.0, 0.5])
@pytest.mark.parametrize("name", ["BatchAllTripletLoss", "BatchHardTripletLoss", "BatchSemiHardTripletLoss"])
def test_triplets_of_a_batch(name: str, margin: float) -> None:
    other = getattr(theirs(), name)(None, margin=margin).compute_loss_from_embeddings
    same(getattr(losses, name)(margin=margin), other, 1, CLASSES)
    same(getattr(losses, name)(margin=margin), other, 1, torch.arange(12) // 6, rows=12, length=0.3)


def test_triplets_with_a_soft_margin() -> None:
    other = theirs().BatchHardSoftMarginTripletLoss(None).compute_loss_from_embeddings
    same(losses.BatchHardSoftMarginTripletLoss(), other, 1, CLASSES)


@pytest.mark.parametrize("margin", [5.0, 0.5])
def test_triplets(margin: float) -> None:
    other = theirs().TripletLoss(None, triplet_margin=margin).compute_loss_from_embeddings
    same(losses.TripletLoss(margin=margin), other, 3)


def test_equal_vectors_have_a_gradient() -> None:
    """Distances of 0 do not give NaN."""
    rows = torch.ones(4, 8, requires_grad=True)
    losses.BatchAllTripletLoss()([rows], torch.tensor([0, 0, 1, 1])).backward()
    assert rows.grad is not None
    assert bool(rows.grad.isfinite().all())


@pytest.mark.parametrize(
    ("name", "count"),
    [("CoSENTLoss", 3), ("TripletLoss", 2), ("BatchHardTripletLoss", 2), ("MultipleNegativesRankingLoss", 1)],
)
def test_wrong_columns(name: str, count: int) -> None:
    with pytest.raises(BijectError, match=f"{name} takes .* columns of texts, found {count}"):
        losses.LOSSES[name]()(columns(count), SCORES)


def test_labels_are_needed() -> None:
    with pytest.raises(BijectError, match="one label a row, 12 here; found none"):
        losses.CoSENTLoss()(columns(2))
    with pytest.raises(BijectError, match="12 here; found 3"):
        losses.BatchAllTripletLoss()(columns(1), SCORES[:3])


@pytest.mark.parametrize(
    "settings",
    [
        {"scale": 0.0},
        {"directions": ("doc_to_query",)},
        {"directions": ("query_to_doc", "doc_to_doc"), "partition_mode": "per_direction"},
        {"partition_mode": "apart"},
    ],
)
def test_ranking_settings(settings: dict[str, Any]) -> None:
    with pytest.raises(BijectError):
        losses.MultipleNegativesRankingLoss(**settings)


def test_matryoshka_dimensions() -> None:
    loss = losses.MatryoshkaLoss(losses.MultipleNegativesRankingLoss(), [8, 32])
    with pytest.raises(BijectError, match="32; the model's vectors have 16"):
        loss(columns(2))
    with pytest.raises(BijectError, match="at least 1"):
        losses.MatryoshkaLoss(losses.MultipleNegativesRankingLoss(), [0])


def test_a_recipe_names_them() -> None:
    config = EmbedConfig(scale=10.0, symmetric=True, margin=1.5, mini_batch_size=7, matryoshka_dims=(16, 8))
    made: Any = losses.make_loss("CachedMultipleNegativesRankingLoss", config)
    assert (made.loss.scale, made.mini_batch_size) == (10.0, 7)
    assert made.loss.directions == ("query_to_doc", "doc_to_query")
    assert [step[0] for step in made.steps] == [16, 8]
    one: Any = losses.make_loss("TripletLoss", EmbedConfig(margin=1.5))
    assert one.margin == 1.5
    for name in losses.LOSSES:
        losses.make_loss(name, EmbedConfig())
