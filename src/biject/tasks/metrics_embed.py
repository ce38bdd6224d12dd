"""Metrics of embeddings during training: by the batches of an evaluation, from the model's own outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from biject.data.columns import COLUMNS, PROMPT
from biject.data.text_columns import Kind
from biject.tasks.dense import dense_of
from biject.tasks.losses.common import pairwise_cos_sim
from biject.tasks.retrieval import Depths, nearest, ranking, retrieval_scores
from biject.tasks.scores import pearson, spearman
from biject.tasks.sentence import Sentence, vectors

_DEPTHS = Depths(accuracy=(1,), precision_recall=(1, 10), mrr=(10,), ndcg=(10,), map=(10,))
EMBED_NAMES: Mapping[Kind, tuple[str, ...]] = {
    "scored": ("pearson", "spearman"),
    "pairs": ("recall@1", "recall@10", "mrr@10", "ndcg@10"),
    "triplets": ("recall@1", "recall@10", "mrr@10", "ndcg@10"),
    "labelled": ("accuracy",),
}
"""`accuracy` of labelled texts: the share whose nearest other text has the same label."""


class EmbedMetrics:
    """Collects vectors.

    Args:
        kind: Of data.
        sentence: How vectors are made.
        model: Whose linears come behind pooling, where there are some.
    """

    def __init__(self, kind: Kind, sentence: Sentence, model: nn.Module) -> None:
        self.kind, self.sentence, self.model = kind, sentence, model
        self.names = EMBED_NAMES[kind]
        self.rows: list[Tensor] = []
        self.labels: list[Tensor] = []
        self.texts: list[list[bytes]] = []

    def __getstate__(self) -> dict[str, Any]:
        """What other ranks get: what was collected, not the model."""
        return {name: value for name, value in vars(self).items() if name != "model"}

    def update(self, outputs: Any, batch: Mapping[str, Tensor]) -> None:
        """Keep a batch's vectors, (columns, B, D), its labels, and what tells its texts apart."""
        columns = int(batch[COLUMNS])
        if isinstance(
            outputs, list
        ):  # a loss with cached gradients: mini-batches, each cut to its own length
            made = [self._vectors(each, batch, at) for at, each in _placed(outputs)]
            rows_RD = torch.cat(made)
        else:
            rows_RD = self._vectors(outputs, batch, 0)
        self.rows.append(torch.stack(rows_RD.chunk(columns)).cpu())
        if "labels" in batch:
            self.labels.append(batch["labels"].cpu())
        ids_RL, mask_RL = batch["input_ids"].cpu(), batch["attention_mask"].cpu() > 0
        keys = [ids[mask].numpy().tobytes() for ids, mask in zip(ids_RL, mask_RL, strict=True)]
        size = len(keys) // columns
        self.texts += [[keys[column * size + i] for column in range(columns)] for i in range(size)]

    def _vectors(self, output: Any, batch: Mapping[str, Tensor], at: int) -> Tensor:
        hidden_BLD = output.last_hidden_state
        size, length = hidden_BLD.shape[:2]
        mask_BL = batch["attention_mask"][at : at + size, :length]
        skip = batch[PROMPT][at : at + size] if PROMPT in batch else None
        return vectors(hidden_BLD, mask_BL, self.sentence, dense=dense_of(self.model), skip=skip).float()

    def merge(self, later: EmbedMetrics) -> None:
        """Add another's vectors behind."""
        self.rows += later.rows
        self.labels += later.labels
        self.texts += later.texts

    def result(self) -> dict[str, float]:
        """The metrics by name."""
        rows_CND = torch.cat(self.rows, dim=1)
        if self.kind == "scored":
            ours = pairwise_cos_sim(rows_CND[0], rows_CND[1]).numpy().astype(np.float64)
            truth = torch.cat(self.labels).numpy().astype(np.float64)
            return {"pearson": pearson(ours, truth), "spearman": spearman(ours, truth)}
        if self.kind == "labelled":
            labels_N = torch.cat(self.labels)
            near_N = nearest(rows_CND[0])
            return {"accuracy": float((labels_N[near_N] == labels_N).float().mean())}
        return self._retrieval(rows_CND)

    def _retrieval(self, rows_CND: Tensor) -> dict[str, float]:
        """Anchors are queries; all positives and negatives, each text once, are the documents."""
        queries: dict[bytes, int] = {}
        documents: dict[bytes, int] = {}
        asked: list[Tensor] = []
        kept: list[Tensor] = []
        relevant: list[set[int]] = []
        for i, (anchor, *texts) in enumerate(self.texts):
            for column, text in enumerate(texts, 1):
                if text not in documents:
                    documents[text] = len(documents)
                    kept.append(rows_CND[column, i])
            if anchor not in queries:
                queries[anchor] = len(queries)
                asked.append(rows_CND[0, i])
                relevant.append(set())
            relevant[queries[anchor]].add(documents[texts[0]])
        names = [f"{i:012d}" for i in range(len(kept))]
        ranked = ranking(torch.stack(asked), torch.stack(kept), names, _DEPTHS.most)
        found = retrieval_scores(ranked, relevant, _DEPTHS)
        return {name: found[name] for name in self.names}


def _placed(outputs: list[Any]) -> list[tuple[int, Any]]:
    """Each mini-batch with its first row's place."""
    at, found = 0, []
    for output in outputs:
        found.append((at, output))
        at += len(output.last_hidden_state)
    return found
