"""Texts to vectors with a model and the settings of its folder, as training and `encode` compute them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from biject.errors import InputError
from biject.tasks.dense import dense_of
from biject.tasks.losses.caching import cached_loss
from biject.tasks.losses.common import EmbeddingLoss
from biject.tasks.sentence import Sentence, vectors

COLUMNS = "columns"
"""How many columns of texts a batch has: (columns · B) rows, the first column's first."""
PROMPT = "prompt_tokens"
"""How many tokens of a row are its prompt's, (columns · B,); pooling may leave them out."""
_NOT_INPUTS = frozenset((COLUMNS, PROMPT, "labels"))


def embed_rows(model: nn.Module, inputs: Mapping[str, Tensor], sentence: Sentence) -> Tensor:
    """One vector a row, (rows, D), in float32 or wider."""
    given = {name: value for name, value in inputs.items() if name not in _NOT_INPUTS}
    hidden_BLD: Tensor = model(**given).last_hidden_state
    return vectors(
        hidden_BLD, inputs["attention_mask"], sentence, dense=dense_of(model), skip=inputs.get(PROMPT)
    )


class EmbeddingStep:
    """The loss of a batch: what `Trainer(model, step=…)` takes.

    Args:
        loss: Of the vectors.
        sentence: How vectors are made.
    """

    def __init__(self, loss: EmbeddingLoss, sentence: Sentence) -> None:
        self.loss, self.sentence = loss, sentence

    def __call__(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """The mean loss of a batch of `biject.data.columns.ColumnCollator`.

        Raises:
            InputError: The loss caches gradients, and there are several processes.
        """
        columns, labels = int(batch[COLUMNS]), batch.get("labels")
        if self.loss.mini_batch_size is None:
            rows = embed_rows(model, batch, self.sentence)
            return self._of(list(rows.chunk(columns)), labels)
        if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
            raise InputError("Losses with cached gradients train in one process; take another `embed.loss`.")
        each = [
            {name: value.chunk(columns)[i] for name, value in _by_row(batch).items()} for i in range(columns)
        ]
        embed = partial(embed_rows, model, sentence=self.sentence)
        return cached_loss(_Wide(self.loss), embed, each, labels)

    def _of(self, embeddings: list[Tensor], labels: Tensor | None) -> Tensor:
        return _Wide(self.loss)(embeddings, labels)

    def weigh(self, batch: Any) -> float:
        """Rows of a batch: its loss is a mean over them."""
        return float(len(batch["attention_mask"]) // int(batch[COLUMNS]))


class _Wide:
    """A loss outside of autocast: scores in bfloat16 would tie what is not equal."""

    def __init__(self, loss: EmbeddingLoss) -> None:
        self.loss = loss

    @property
    def mini_batch_size(self) -> int | None:
        return self.loss.mini_batch_size

    def __call__(self, embeddings: Any, labels: Tensor | None = None) -> Tensor:
        with torch.autocast(embeddings[0].device.type, enabled=False):
            return self.loss(embeddings, labels)


def _by_row(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in batch.items() if name not in (COLUMNS, "labels")}
