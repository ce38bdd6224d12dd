"""Questions: what was answered, where it stands in the context, and where the truth stands."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from biject.data.qa import QaDataset
from biject.runs.insights.common import MOST_EXAMPLES, Held, interval, most, shortened
from biject.tasks.metrics_qa import QaMetrics

Span = tuple[int, int, str]
_AROUND = 220
"""Letters of the context that are shown on each side of an answer."""


def look(held: Held) -> dict[str, Any]:
    """Exact match and F1 with their intervals, and the answers that miss most."""
    dataset = held.dataset
    assert isinstance(dataset, QaDataset)
    metrics = QaMetrics(dataset)
    for batch, outputs in held.outputs():
        metrics.update(outputs, batch)
    judged = metrics.judged()
    scores = np.array([[answer.exact_match, answer.f1] for answer in judged])

    def mean(column: int) -> Any:
        def of(chosen: npt.NDArray[np.int64]) -> float:
            return float(scores[chosen, column].mean())

        return of

    surprise = [(1 - answer.f1) * 2 + answer.score for answer in judged]  # wrong, and sure of it
    wrong = [i for i in most(surprise, len(judged)) if judged[i].f1 < 1][:MOST_EXAMPLES]
    examples = wrong or most(surprise, 3)
    return {
        "intervals": {"f1": interval(mean(1), len(judged)), "exact_match": interval(mean(0), len(judged))},
        "examples": [_example(dataset, judged[i]) for i in examples],
    }


def _example(dataset: QaDataset, answer: Any) -> dict[str, Any]:
    question = dataset.questions[answer.row]
    spans = [(answer.start, answer.end, "prediction")] if answer.text else []
    spans += [(start, start + len(text), "truth") for text, start in question.answers[:1]]
    low = max(0, min((start for start, _, _ in spans), default=0) - _AROUND)
    high = max((end for _, end, _ in spans), default=2 * _AROUND) + _AROUND
    first, *rest = _excerpts(spans, low, high)
    pieces = _marked(question.context, first, spans)
    for other in rest:
        pieces += [["…", "gap"], *_marked(question.context, other, spans)]
    return {
        "question": shortened(question.question, 300),
        "before": low > 0,
        "after": high < len(question.context),
        "pieces": pieces,
        "answers": [shortened(text, 200) for text, _ in question.answers[:3]],
        "prediction": shortened(answer.text, 200),
        "score": answer.score,
        "f1": answer.f1,
    }


def _excerpts(spans: list[Span], low: int, high: int) -> list[tuple[int, int]]:
    """The stretch that is shown; two where answers are far apart, as what lies between is of no help."""
    if high - low <= 6 * _AROUND or len(spans) < 2:
        return [(low, min(high, low + 8 * _AROUND))]
    places = sorted((start, min(end, start + 2 * _AROUND)) for start, end, _ in spans)
    return [(max(0, start - _AROUND), end + _AROUND) for start, end in places]


def _marked(context: str, stretch: tuple[int, int], spans: list[Span]) -> list[list[str]]:
    """A stretch of the passage in pieces."""
    low, high = stretch
    return _pieces(context[low:high], [(start - low, end - low, kind) for start, end, kind in spans])


def _pieces(context: str, spans: list[Span]) -> list[list[str]]:
    """The text in pieces: each with `truth`, `prediction`, `both` or nothing."""
    cuts = sorted({0, len(context), *(min(max(c, 0), len(context)) for span in spans for c in span[:2])})
    pieces = []
    for start, end in pairwise(cuts):
        kinds = [kind for a, b, kind in spans if a <= start and end <= b]
        kind = "both" if len(set(kinds)) == 2 else kinds[0] if kinds else ""
        pieces.append([context[start:end], kind])
    return pieces
