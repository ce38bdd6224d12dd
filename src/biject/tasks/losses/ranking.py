"""Losses of pairs and triplets: every other row of a batch is a negative, given negatives are harder ones.

Source: sentence-transformers 6.2, losses/multiple_negatives_ranking.py and its cached version.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from biject.errors import ConfigError
from biject.tasks.losses.common import columns_of, cos_sim

Direction = Literal["query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc"]
PartitionMode = Literal["joint", "per_direction"]


@dataclass(frozen=True, kw_only=True)
class MultipleNegativesRankingLoss:
    """Cross-entropy of each anchor's own positive against all documents of the batch.

    Attributes:
        scale: What cosines are multiplied with: 1 / temperature.
        directions: Further similarities among the negatives; `doc_to_query` makes the loss symmetric.
        partition_mode: One softmax over all directions, or one for each, averaged.

    Raises:
        ConfigError: A direction that is not known, or that the mode does not take.
    """

    scale: float = 20.0
    directions: tuple[Direction, ...] = ("query_to_doc",)
    partition_mode: PartitionMode = "joint"
    mini_batch_size: ClassVar[int | None] = None

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ConfigError(f"`scale` should be positive, found {self.scale}.")
        if "query_to_doc" not in self.directions or not set(self.directions) <= set(get_args(Direction)):
            raise ConfigError(
                f"`directions` are query_to_doc and further ones of {', '.join(get_args(Direction))}; found "
                f"{', '.join(self.directions) or 'none'}."
            )
        if self.partition_mode not in get_args(PartitionMode):
            raise ConfigError(f"`partition_mode` is joint or per_direction; found {self.partition_mode!r}.")
        alike = {"query_to_query", "doc_to_doc"} & set(self.directions)
        if self.partition_mode == "per_direction" and alike:
            raise ConfigError(
                f"`partition_mode` per_direction has no positive in {', '.join(sorted(alike))}."
            )

    def __call__(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """The mean over the anchors; columns are anchors, positives, and any number of negatives."""
        columns = columns_of(embeddings, (2, None), type(self).__name__)
        rows = torch.arange(len(columns[0]), device=columns[0].device)
        return self.of_rows(columns[0], columns[1:], rows).mean()

    def of_rows(self, anchors_BD: Tensor, docs: Sequence[Tensor], rows_R: Tensor) -> Tensor:
        """The losses of some anchors of the batch, (R,)."""
        all_ND, own_RD = torch.cat(list(docs)), docs[0][rows_R]
        places = torch.arange(len(rows_R), device=rows_R.device)
        scores = {"query_to_doc": cos_sim(anchors_BD[rows_R], all_ND)}
        if "query_to_query" in self.directions:
            scores["query_to_query"] = cos_sim(anchors_BD[rows_R], anchors_BD)
            scores["query_to_query"][places, rows_R] = -torch.inf
        if "doc_to_query" in self.directions:
            scores["doc_to_query"] = cos_sim(anchors_BD, own_RD).T
        if "doc_to_doc" in self.directions:
            same_RN = torch.eye(len(anchors_BD), dtype=torch.bool, device=rows_R.device)[rows_R]
            among = cos_sim(all_ND, own_RD).T
            scores["doc_to_doc"] = among.masked_fill(same_RN.repeat(1, len(docs)), -torch.inf)
        scaled = [value * self.scale for value in scores.values()]
        own_R = scaled[0][places, rows_R]
        if self.partition_mode == "joint":
            return -(own_R - torch.logsumexp(torch.cat(scaled, dim=1), dim=1))
        log_z_R = torch.stack([torch.logsumexp(value, dim=1) for value in scaled]).sum(0) / len(scaled)
        return -(own_R - log_z_R)


@dataclass(frozen=True, kw_only=True)
class CachedMultipleNegativesRankingLoss(MultipleNegativesRankingLoss):
    """The same for batches whose activations do not fit into memory: see `biject.tasks.losses.caching`.

    Attributes:
        mini_batch_size: Texts that are embedded at once, and rows of the score matrix that are made at once.
    """

    mini_batch_size: int = 32  # type: ignore[misc]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mini_batch_size < 1:
            raise ConfigError(f"`mini_batch_size` should be at least 1, found {self.mini_batch_size}.")

    def __call__(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """The mean over the anchors, added up over slices of them."""
        columns = columns_of(embeddings, (2, None), type(self).__name__)
        count = len(columns[0])
        rows = torch.arange(count, device=columns[0].device)
        parts = [
            self.of_rows(columns[0], columns[1:], some).mean() * len(some) / count
            for some in _slices(rows, self.mini_batch_size)
        ]
        return torch.stack(parts).sum()


def _slices(rows: Tensor, size: int) -> list[Tensor]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
