"""Runs that make embedders and rerankers: how vectors are made, what is minimised, what is written beside the
model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from biject.config.embed import EmbedConfig
from biject.config.recipe import FinetuneRecipe
from biject.data.columns import ColumnsDataset
from biject.data.rerank import QUERY
from biject.data.text_columns import Kind
from biject.errors import InputError
from biject.identify import Identity
from biject.pretrained import PretrainedModel
from biject.runs.objective import Objective
from biject.runs.samples import Samples
from biject.runs.sentences import sentence_of
from biject.tasks.dense import attach
from biject.tasks.embedding import EmbeddingStep
from biject.tasks.losses import make_loss
from biject.tasks.metrics_embed import EMBED_NAMES, EmbedMetrics
from biject.tasks.metrics_rerank import RERANK_NAMES, RerankMetrics
from biject.tasks.sentence_files import reranker_files, sentence_files
from biject.tokenization.tokenizer import Tokenizer

Finish = Callable[[PretrainedModel], Mapping[str, bytes]]
"""Gives the files that belong beside a trained model."""
_USUAL: Mapping[Kind, str] = {
    "pairs": "MultipleNegativesRankingLoss",
    "triplets": "MultipleNegativesRankingLoss",
    "scored": "CoSENTLoss",
    "labelled": "BatchAllTripletLoss",
}
_TAKES: Mapping[str, tuple[Kind, ...]] = {
    "MultipleNegativesRankingLoss": ("pairs", "triplets"),
    "CachedMultipleNegativesRankingLoss": ("pairs", "triplets"),
    "TripletLoss": ("triplets",),
    "CoSENTLoss": ("scored",),
    "CosineSimilarityLoss": ("scored",),
}
"""All other losses take labelled texts."""


def metric_names_of(recipe: FinetuneRecipe, samples: Samples) -> tuple[str, ...]:
    """What evaluations give, the loss first."""
    if recipe.task == "rerank":
        return ("loss", *RERANK_NAMES)
    assert isinstance(samples.data, ColumnsDataset)
    return ("loss", *EMBED_NAMES[samples.data.kind])


def check_rank_head(recipe: FinetuneRecipe, found: Identity) -> None:
    """Refuse to train a reranker on a head of several classes.

    Raises:
        InputError: The checkpoint has such a head, and the recipe asks for no new one.
    """
    outputs = found.config.head.num_labels
    if recipe.task == "rerank" and found.file_head == recipe.head and not recipe.new_head and outputs != 1:
        raise InputError(
            f"`task` is rerank, which trains one output, and {recipe.model} has a classifier of {outputs}; "
            "set `new_head = true` in the recipe to start with a new head."
        )


def over_columns(
    recipe: FinetuneRecipe, model: PretrainedModel, tokenizer: Tokenizer, samples: Samples
) -> tuple[Objective, Finish, tuple[str, ...]]:
    """What a run minimises, what makes its folder, and lines for the user.

    Args:
        recipe: The run.
        model: On its device, with its adapter; gets the linears that its folder has behind pooling.
        tokenizer: Its own.
        samples: Of several texts a row, or of pairs with scores.

    Raises:
        InputError: The loss does not take such data.
    """
    if recipe.task == "rerank":
        rank = recipe.embed.rank_loss
        activation = "Sigmoid" if rank == "BinaryCrossEntropyLoss" else "Identity"
        files = partial(reranker_files, tokenizer=tokenizer, activation=activation)
        return RankObjective(name=rank), files, (f"LOSS {rank}",)
    assert isinstance(samples.data, ColumnsDataset)
    sentence, kind = sentence_of(recipe), samples.data.kind
    name = _loss_name(recipe.embed, kind)
    made = attach(model, sentence.dense)
    if made is not None and model.adapters is not None:
        made.requires_grad_(False)  # with an adapter nothing else trains

    def finish(trained: PretrainedModel) -> Mapping[str, bytes]:
        return sentence_files(trained, tokenizer, sentence)

    step = EmbeddingStep(make_loss(name, recipe.embed), sentence)
    lengths = ", ".join(map(str, recipe.embed.matryoshka_dims))
    behind = ", ".join("Normalize" if stage == "normalize" else "Dense" for stage in sentence.stages)
    lines = (
        f"LOSS {name}{f' at {lengths} values' if lengths else ''}",
        f"VECTORS pooling {' + '.join(sentence.modes)}{f', {behind}' if behind else ''}",
    )
    return EmbedObjective(step_of=step, kind=kind, model=model), finish, lines


def _loss_name(settings: EmbedConfig, kind: Kind) -> str:
    if settings.loss == "auto":
        return _USUAL[kind]
    takes = _TAKES.get(settings.loss, ("labelled",))
    if kind not in takes:
        raise InputError(
            f"`embed.loss` {settings.loss} takes {' or '.join(takes)}, and the data are {kind}: leave it out "
            f"for {_USUAL[kind]}, or name other columns."
        )
    return settings.loss


@dataclass(frozen=True, kw_only=True)
class EmbedObjective:
    """The loss of vectors, and how good they are.

    Attributes:
        step_of: Computes it.
        kind: Of data.
        model: Whose linears come behind pooling.
    """

    step_of: EmbeddingStep
    kind: Kind
    model: nn.Module

    def step(self, model: nn.Module, batch: Any) -> Tensor:
        """The mean loss of a batch."""
        return self.step_of(model, batch)

    def weigh(self, batch: Any) -> float:
        """Rows."""
        return self.step_of.weigh(batch)

    def metrics(self) -> EmbedMetrics:
        """A new accumulator."""
        return EmbedMetrics(self.kind, self.step_of.sentence, self.model)


@dataclass(frozen=True, kw_only=True)
class RankObjective:
    """One score a pair against its truth, as sentence-transformers' losses of the same names."""

    name: str

    def step(self, model: nn.Module, batch: Any) -> Tensor:
        """The mean loss of a batch."""
        given = {name: value for name, value in batch.items() if name not in ("labels", QUERY)}
        scores_B = model(**given).logits.view(-1)
        truth_B = batch["labels"].to(scores_B.dtype)
        if self.name == "MSELoss":
            return F.mse_loss(scores_B, truth_B)
        return F.binary_cross_entropy_with_logits(scores_B, truth_B)

    def weigh(self, batch: Any) -> float:
        """Rows."""
        return float(len(batch["labels"]))

    def metrics(self) -> RerankMetrics:
        """A new accumulator."""
        return RerankMetrics()
