"""What ranks send each other at the end of an evaluation: what metrics collected, and no model."""

from __future__ import annotations

import pickle
from typing import Any, get_args

import pytest
import torch
from torch import nn

from biject.config.recipe import FinetuneTask
from biject.data.columns import COLUMNS
from biject.data.text_columns import Kind
from biject.tasks.metrics import Mergeable, metrics_for
from biject.tasks.metrics_embed import EMBED_NAMES, EmbedMetrics
from biject.tasks.metrics_rerank import RerankMetrics
from biject.tasks.sentence import Sentence


class Unpickled(nn.Module):
    """Neither a rank nor a file can have it."""

    def __reduce__(self) -> Any:
        raise AssertionError("a model is sent to another rank")


def embed(kind: Kind = "pairs") -> EmbedMetrics:
    return EmbedMetrics(kind, Sentence(), Unpickled())


def made(task: str) -> Any:
    if task == "embed":
        return embed()
    return RerankMetrics() if task == "rerank" else metrics_for(task, labels=("B-A", "I-A", "O"))


@pytest.mark.parametrize("task", [task for task in get_args(FinetuneTask) if task != "qa"])  # seen whole
def test_no_model_is_sent(task: str) -> None:
    metrics = made(task)
    assert isinstance(metrics, Mergeable)
    assert type(pickle.loads(pickle.dumps(metrics))) is type(metrics)


@pytest.mark.parametrize("kind", EMBED_NAMES)
def test_vectors_of_several_ranks_are_those_of_one(kind: Kind) -> None:
    torch.manual_seed(0)
    columns = {"pairs": 2, "triplets": 3, "scored": 2, "labelled": 1}[kind]
    batches = []
    for _ in range(3):
        ids = torch.randint(5, 90, (4 * columns, 6))
        labels = {"labels": torch.randint(0, 2, (4,)).float()} if kind in ("scored", "labelled") else {}
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), COLUMNS: torch.tensor(columns)}
        batches.append((torch.randn(4 * columns, 6, 8), {**batch, **labels}))
    whole, parts = embed(kind), [embed(kind), embed(kind)]
    for place, (rows, batch) in enumerate(batches):
        output = type("Output", (), {"last_hidden_state": rows})
        whole.update(output, batch)
        parts[min(place, 1)].update(output, batch)
    first, later = (pickle.loads(pickle.dumps(part)) for part in parts)
    first.merge(later)
    assert first.result() == whole.result()
