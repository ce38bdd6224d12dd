"""`EmbedConfig`: what a model of embeddings learns from, and how its vectors are made. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from biject.config.settings import not_positive, refuse
from biject.config.tasks import EMBEDDINGS

EmbeddingLossName = Literal[
    "auto",
    "MultipleNegativesRankingLoss",
    "CachedMultipleNegativesRankingLoss",
    "CoSENTLoss",
    "CosineSimilarityLoss",
    "TripletLoss",
    "BatchAllTripletLoss",
    "BatchHardTripletLoss",
    "BatchHardSoftMarginTripletLoss",
    "BatchSemiHardTripletLoss",
]
PoolingName = Literal["auto", "mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
RankLossName = Literal["BinaryCrossEntropyLoss", "MSELoss"]


@dataclass(frozen=True, kw_only=True)
class EmbedConfig:
    """Settings of the tasks `embed` and `rerank`: the recipe's table `[embed]`.

    Attributes:
        loss: By sentence-transformers' names; `auto` is MultipleNegativesRankingLoss for pairs and triplets,
            CoSENTLoss for scored pairs and BatchAllTripletLoss for labelled texts.
        scale: What cosines are multiplied with in the first three losses.
        symmetric: Documents choose among queries, too (ranking losses).
        margin: Of the triplet losses.
        mini_batch_size: Texts that are embedded at once where gradients are cached.
        matryoshka_dims: Compute the loss of the first so many values of each vector, for each of these.
        matryoshka_weights: One for each of them; left out, 1.
        pooling: How rows become a vector; `auto` is what the folder says, and the mean where it says nothing.
        normalize: Vectors have length 1; left out, what the folder says, and yes where it says nothing.
        query_prompt: Put before every text of the first column; the folder gets it as prompt `query`.
        document_prompt: Put before every text of the others; likewise as prompt `document`.
        rank_loss: Of the task `rerank`, by sentence-transformers' names.
    """

    loss: EmbeddingLossName = "auto"
    scale: float = 20.0
    symmetric: bool = False
    margin: float = 5.0
    mini_batch_size: int = 32
    matryoshka_dims: tuple[int, ...] = ()
    matryoshka_weights: tuple[float, ...] = ()
    pooling: PoolingName = "auto"
    normalize: bool | None = None
    query_prompt: str = ""
    document_prompt: str = ""
    rank_loss: RankLossName = "BinaryCrossEntropyLoss"

    def __post_init__(self) -> None:
        """Raise `ConfigError` for values that cannot be used, all in one message."""
        faults = not_positive(self, ("scale", "margin", "mini_batch_size"), of="embed")
        if any(dim < 1 for dim in self.matryoshka_dims):
            faults.append(f"`embed.matryoshka_dims` should be at least 1, found {list(self.matryoshka_dims)}")
        if self.matryoshka_weights and len(self.matryoshka_weights) != len(self.matryoshka_dims):
            faults.append(
                f"`embed.matryoshka_weights` should be one a dimension ({len(self.matryoshka_dims)}), found "
                f"{len(self.matryoshka_weights)}"
            )
        if self.symmetric and self.loss not in ("auto", *_RANKING):
            faults.append(f"`embed.symmetric` is for {' and '.join(_RANKING)}, found {self.loss}")
        refuse(faults)


_RANKING = ("MultipleNegativesRankingLoss", "CachedMultipleNegativesRankingLoss")
USUAL_EMBED = EmbedConfig()


def embed_faults(task: str, embed: EmbedConfig) -> list[str]:
    """What of a recipe's `[embed]` does not fit its task."""
    if embed == USUAL_EMBED or task in EMBEDDINGS:
        return []
    return [f"`embed` is for `task` {' or '.join(EMBEDDINGS)}, found {task}"]
