"""Metrics of question answering: a question's windows are judged together, as `biject predict` does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from biject.data.qa import QaDataset
from biject.tasks.scores import answer_scores
from biject.tasks.spans import Window, answers

MAX_ANSWER_TOKENS = 30  # of SQuAD's baselines


class Judged(NamedTuple):
    """The answer to one question, its place in the context, and how it compares with the true ones."""

    row: int
    text: str
    start: int
    end: int
    score: float
    exact_match: float
    f1: float


class QaMetrics:
    """`exact_match` and `f1` over the questions whose windows were seen."""

    names = ("exact_match", "f1")

    def __init__(self, dataset: QaDataset) -> None:
        self.dataset = dataset
        self.windows: list[Window] = []

    def update(self, outputs: Any, batch: Mapping[str, Tensor]) -> None:
        """Keep the scores of the data set's next windows."""
        starts, ends = (part.float().cpu() for part in (outputs.start_logits, outputs.end_logits))
        mask = batch["attention_mask"].bool().cpu()
        for row, index in enumerate(range(len(self.windows), len(self.windows) + len(mask))):
            first, last = self.dataset.starts[index], self.dataset.ends[index]
            window = Window(
                starts=starts[row][mask[row]].numpy().astype(np.float64),
                ends=ends[row][mask[row]].numpy().astype(np.float64),
                in_context=[place >= 0 for place in first],
                offsets=list(zip(first, last, strict=True)),
                cls=self.dataset.cls[index],
            )
            self.windows.append(window)

    def judged(self) -> list[Judged]:
        """Each question's best answer; the null answer where a question of the data set has no answer."""
        by_question: dict[int, list[Window]] = {}
        for row, window in zip(self.dataset.rows, self.windows, strict=False):
            by_question.setdefault(row, []).append(window)
        unanswered = any(not question.answers for question in self.dataset.questions)
        return [self._judge(row, windows, unanswered) for row, windows in by_question.items()]

    def _judge(self, row: int, windows: list[Window], unanswered: bool) -> Judged:
        question = self.dataset.questions[row]
        found = answers(
            question.context,
            windows,
            top_k=1,
            max_tokens=MAX_ANSWER_TOKENS,
            null_answer=unanswered,
            null_threshold=0.0,
        )
        best: dict[str, Any] = found[0] if found else {"answer": "", "score": 0.0, "start": 0, "end": 0}
        exact, f1 = answer_scores(best["answer"], [text for text, _ in question.answers])
        return Judged(row, best["answer"], best["start"], best["end"], float(best["score"]), exact, f1)

    def result(self) -> dict[str, float]:
        """The metrics by name."""
        scores = [(answer.exact_match, answer.f1) for answer in self.judged()]
        exact, f1 = np.mean(scores, axis=0) if scores else (0.0, 0.0)
        return {"exact_match": float(exact), "f1": float(f1)}
