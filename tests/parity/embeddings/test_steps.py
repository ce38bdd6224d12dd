"""Losses of whole models, and the gradients of every parameter, equal sentence-transformers'."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from biject.data.columns import ColumnCollator, ColumnsDataset
from biject.data.features import build_dataset
from biject.tasks import losses
from biject.tasks.dense import NAME
from biject.tasks.embedding import EmbeddingStep
from biject.tasks.encoder import EmbeddingModel
from parity.embeddings.conftest import opened
from parity.real import real_folder

Wrap = Callable[..., Path]
PAIRS = [
    {"anchor": "paris is capital", "positive": "france .", "negative": "the the the", "n2": "is of a b"},
    {"anchor": "of france", "positive": "a b c d e is capital of", "negative": "b", "n2": "paris"},
    {"anchor": "c", "positive": "the capital of france", "negative": "e d", "n2": "a"},
    {"anchor": "is paris the", "positive": "paris paris", "negative": "of . of", "n2": "a . c . e"},
    {"anchor": "a b a b a b", "positive": "b a", "negative": "capital", "n2": "france is"},
]
SCORES = [0.9, 0.1, 0.4, 0.4, 0.7]
CLASSES = [0, 1, 0, 1, 1]


def data(name: str) -> tuple[list[str], list[float] | None]:
    """Columns of texts, and labels, as a loss takes them."""
    if name.startswith("Co"):
        return ["anchor", "positive"], SCORES
    if name.startswith("Batch"):
        return ["anchor"], [float(c) for c in CLASSES]
    return ["anchor", "positive", "negative", *([] if name == "TripletLoss" else ["n2"])], None


Prompts = tuple[str, str]
NONE: Prompts = ("", "")


def our_gradients(
    model: EmbeddingModel, loss: Any, name: str, prompts: Prompts = NONE
) -> tuple[float, dict[str, Tensor]]:
    """As training computes them, in one call of the model where the loss caches nothing."""
    columns, labels = data(name)
    rows = [{**row, **({} if labels is None else {"score": labels[i]})} for i, row in enumerate(PAIRS)]
    if name.startswith("Batch"):
        rows = [{"text": row["anchor"], "label": str(row["score"])} for row in rows]
        columns = ["text"]
    built = build_dataset(rows, "embed", model.tokenizer, text_column=columns, prompts=prompts)
    assert isinstance(built.dataset, ColumnsDataset)
    batch = ColumnCollator.of(model.tokenizer)([built.dataset[i] for i in range(len(rows))])
    found = EmbeddingStep(loss, model.sentence)(model.model, batch)
    found.backward()
    grads = {n: p.grad for n, p in model.model.named_parameters() if p.grad is not None}
    return float(found.detach()), grads


def their_gradients(
    model: Any, loss: Any, name: str, prompts: Prompts = NONE
) -> tuple[float, dict[str, Tensor]]:
    columns, labels = data(name)
    features = [
        model.preprocess([row[column] for row in PAIRS], prompt=prompts[min(place, 1)] or None)
        for place, column in enumerate(columns)
    ]
    given = None if labels is None else torch.tensor(labels)
    found = loss(features, given)
    found.backward()
    return float(found.detach()), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def compare(
    folder: Path,
    ours: Any,
    theirs: Callable[[Any], Any],
    name: str,
    *,
    tolerance: float = 1e-6,
    double: bool = False,
    prompts: Prompts = NONE,
) -> None:
    """The loss, and every gradient that is not 0, by its place in the file."""
    model, other = EmbeddingModel.from_pretrained(folder), opened(folder)  # both without dropout
    if double:
        model.model.double()
        other.double()
    loss, mine = our_gradients(model, ours, name, prompts)
    expected, hers = their_gradients(other, theirs(other), name, prompts)
    assert abs(loss - expected) <= tolerance * max(1.0, abs(expected))
    names = {b.memory: b.disk[0] for b in model.model.provenance.plan.bindings}
    compared = 0
    for place, grad in mine.items():
        if place.startswith(NAME):
            index, _, rest = place.removeprefix(f"{NAME}.").partition(".")
            theirs_name = f"{int(index) + 2}.{rest}"
        else:
            theirs_name = f"0.model.{names[place]}"
        other_grad = hers[theirs_name]
        size = max(1.0, float(other_grad.abs().max()))  # float32: gradients of 4 are 5e-7 apart at least
        assert (grad - other_grad).abs().max() <= tolerance * size, place
        compared += int(grad.abs().max() > 1e-5)
    assert compared > 10


ALL = tuple(losses.LOSSES)


def pair(name: str, dims: tuple[int, ...] = (), **options: Any) -> tuple[Any, Callable[[Any], Any]]:
    """The same loss of both sides."""
    theirs = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    ours = losses.LOSSES[name](**options)

    def make(model: nn.Module) -> Any:
        made = getattr(theirs, name)(model, **options)
        return theirs.MatryoshkaLoss(model, made, list(dims)) if dims else made

    return (losses.MatryoshkaLoss(ours, dims) if dims else ours), make


FAST = ("MultipleNegativesRankingLoss", "CoSENTLoss", "BatchAllTripletLoss")
EVERY = [(name, double) for name in ALL for double in (False, True)]


@pytest.mark.parametrize(
    ("name", "double"),
    [pytest.param(*one, marks=() if one[1] or one[0] in FAST else pytest.mark.slow) for one in EVERY],
)
def test_tiny(name: str, double: bool, wrapped: Wrap) -> None:
    """In float64, too, where nothing but the formulas can differ."""
    ours, theirs = pair(name, **({"mini_batch_size": 2} if name.startswith("Cached") else {}))
    compare(wrapped("bert"), ours, theirs, name, double=double, tolerance=1e-12 if double else 1e-6)


@pytest.mark.parametrize(
    "name", ["MultipleNegativesRankingLoss", "CachedMultipleNegativesRankingLoss", "CoSENTLoss"]
)
def test_matryoshka(name: str, wrapped: Wrap) -> None:
    ours, theirs = pair(name, (32, 8, 16), **({"mini_batch_size": 2} if name.startswith("Cached") else {}))
    compare(wrapped("bert"), ours, theirs, name, double=True, tolerance=1e-12)


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("name", ["MultipleNegativesRankingLoss", "CachedMultipleNegativesRankingLoss"])
def test_prompts(name: str, include: bool, wrapped: Wrap) -> None:
    """Their tokens count unless the folder says otherwise."""
    ours, theirs = pair(name, **({"mini_batch_size": 2} if name.startswith("Cached") else {}))
    folder = wrapped("bert", include_prompt=include)
    compare(folder, ours, theirs, name, double=True, tolerance=1e-12, prompts=("of the ", "capital "))


def test_a_linear_is_trained(wrapped: Wrap) -> None:
    ours, theirs = pair("MultipleNegativesRankingLoss")
    compare(wrapped("bert", dense=({"out_features": 12},), normalize=True), ours, theirs, "Multiple")


SLOW = ("distilbert", "roberta", "deberta-v2")


@pytest.mark.parametrize(
    "family", ["modernbert", "qwen3", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_families(family: str, wrapped: Wrap) -> None:
    ours, theirs = pair("MultipleNegativesRankingLoss")
    folder = wrapped(family, pooling="lasttoken" if family == "qwen3" else "mean")
    compare(folder, ours, theirs, "MultipleNegativesRankingLoss")


@pytest.mark.parametrize(
    "name", ["MultipleNegativesRankingLoss", "CachedMultipleNegativesRankingLoss", "CoSENTLoss"]
)
def test_minilm(name: str) -> None:
    ours, theirs = pair(name, **({"mini_batch_size": 2} if name.startswith("Cached") else {}))
    compare(real_folder("all-MiniLM-L6-v2"), ours, theirs, name)


def test_caching_draws_the_same_random_numbers(wrapped: Wrap) -> None:
    """With dropout, both passes of a mini-batch agree: gradients are those of one pass over these numbers."""
    folder = wrapped("bert")
    loss = losses.CachedMultipleNegativesRankingLoss(mini_batch_size=64)
    found = []
    for ours in (loss, losses.MultipleNegativesRankingLoss()):
        model = EmbeddingModel.from_pretrained(folder)
        model.model.train()
        torch.manual_seed(3)
        rows = [{"anchor": row["anchor"], "positive": row["positive"]} for row in PAIRS]
        built = build_dataset(rows, "embed", model.tokenizer)
        batch = ColumnCollator.of(model.tokenizer)([built.dataset[i] for i in range(len(rows))])
        if ours is loss:
            out = EmbeddingStep(ours, model.sentence)(model.model, batch)
            out.backward()
        else:  # each column by itself, in its own length, as mini-batches are made
            step = EmbeddingStep(ours, model.sentence)
            made = [_alone(step, model, built.dataset, model.tokenizer, column) for column in (0, 1)]
            out = ours(made)
            out.backward()
        found.append((float(out.detach()), model.model.embed.tokens.weight.grad))
    assert found[0][0] == found[1][0]
    assert (found[0][1] - found[1][1]).abs().max() <= 1e-6


def _alone(step: EmbeddingStep, model: EmbeddingModel, dataset: Any, tokenizer: Any, column: int) -> Tensor:
    from biject.tasks.embedding import embed_rows

    samples = [{k: [v[column]] for k, v in dataset[i].items()} for i in range(len(dataset))]
    return embed_rows(model.model, ColumnCollator.of(tokenizer)(samples), step.sentence)
