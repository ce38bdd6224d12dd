"""Losses of embeddings, as sentence-transformers defines them: embeddings (and labels) in, one number out.

A loss is called with one (B, D) tensor a column of texts, and labels or None; gradients flow back into the
embeddings. `LOSSES` has them by sentence-transformers' names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from biject.config.embed import EmbedConfig
from biject.tasks.losses.common import EmbeddingLoss
from biject.tasks.losses.matryoshka import MatryoshkaLoss
from biject.tasks.losses.ranking import CachedMultipleNegativesRankingLoss, MultipleNegativesRankingLoss
from biject.tasks.losses.scored import CoSENTLoss, CosineSimilarityLoss
from biject.tasks.losses.triplets import (
    BatchAllTripletLoss,
    BatchHardSoftMarginTripletLoss,
    BatchHardTripletLoss,
    BatchSemiHardTripletLoss,
    TripletLoss,
)

LOSSES: Mapping[str, Callable[..., EmbeddingLoss]] = {
    loss.__name__: loss
    for loss in (
        MultipleNegativesRankingLoss,
        CachedMultipleNegativesRankingLoss,
        CoSENTLoss,
        CosineSimilarityLoss,
        TripletLoss,
        BatchAllTripletLoss,
        BatchHardTripletLoss,
        BatchHardSoftMarginTripletLoss,
        BatchSemiHardTripletLoss,
    )
}


def make_loss(name: str, config: EmbedConfig) -> EmbeddingLoss:
    """The loss that a recipe asks for; what it leaves open is as sentence-transformers has it."""
    given: dict[str, Any] = {}
    if name in ("MultipleNegativesRankingLoss", "CachedMultipleNegativesRankingLoss", "CoSENTLoss"):
        given["scale"] = config.scale
    if name.endswith("MultipleNegativesRankingLoss") and config.symmetric:
        given |= {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"}
    if name == "CachedMultipleNegativesRankingLoss":
        given["mini_batch_size"] = config.mini_batch_size
    if name.endswith("TripletLoss") and name != "BatchHardSoftMarginTripletLoss":
        given["margin"] = config.margin
    loss = LOSSES[name](**given)
    if not config.matryoshka_dims:
        return loss
    return MatryoshkaLoss(loss, config.matryoshka_dims, config.matryoshka_weights or None)


__all__ = [
    "LOSSES",
    "BatchAllTripletLoss",
    "BatchHardSoftMarginTripletLoss",
    "BatchHardTripletLoss",
    "BatchSemiHardTripletLoss",
    "CachedMultipleNegativesRankingLoss",
    "CoSENTLoss",
    "CosineSimilarityLoss",
    "EmbeddingLoss",
    "MatryoshkaLoss",
    "MultipleNegativesRankingLoss",
    "TripletLoss",
    "make_loss",
]
