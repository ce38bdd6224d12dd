"""From scores of starts and ends to answers: the search of SQuAD's baselines.

Source: Devlin et al. 2018 (arXiv:1810.04805), sections 4.2 and 4.3: a span's score is the sum of its start's
and its end's; the answer is the best span with end ≥ start inside the context. With unanswerable questions
the null answer's score is that of the `[CLS]` token, the least over all windows, and it wins where it exceeds
the best span's by more than a threshold. Probabilities are a softmax over the n best, as in transformers'
examples/pytorch/question-answering/utils_qa.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from biject.tasks.numbers import softmax

N_BEST = 20
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Window:
    """One row: a question with a part of its context."""

    starts: Doubles
    ends: Doubles
    in_context: Sequence[bool]
    offsets: Sequence[tuple[int, int]]
    """Characters of the whole context."""
    cls: int
    """Column of the token that means no answer."""


def best_spans(window: Window, *, max_tokens: int) -> Iterator[tuple[float, int, int]]:
    """Every (score, first token, last token) of at most `max_tokens` tokens inside the context, best first.

    Equal scores come in the order of the text.
    """
    inside = np.flatnonzero(np.asarray(window.in_context))
    count, width = len(inside), min(max_tokens, len(inside))
    sums = np.full((count, width), -np.inf)
    for more in range(width):
        sums[: count - more, more] = window.starts[inside[: count - more]] + window.ends[inside[more:]]
    flat = sums.reshape(-1)
    for i in np.argsort(-flat, kind="stable"):
        if flat[i] == -np.inf:
            return
        first, more = divmod(int(i), width)
        yield float(flat[i]), int(inside[first]), int(inside[first + more])


def answers(
    context: str,
    windows: Sequence[Window],
    *,
    top_k: int,
    max_tokens: int,
    null_answer: bool,
    null_threshold: float,
    n_best: int = N_BEST,
) -> list[dict[str, Any]]:
    """The answers of one question, best first, and the null answer among them where it is allowed.

    White space at the ends of a span is left out; a span that is found twice, in two windows or with and
    without white space, counts once with its best score.
    """
    scored: dict[tuple[int, int], float] = {}
    for window in windows:
        own: dict[tuple[int, int], float] = {}
        for score, first, last in best_spans(window, max_tokens=max_tokens):
            place = _trimmed(context, window.offsets[first][0], window.offsets[last][1])
            if place[0] < place[1]:
                own.setdefault(place, score)
            if len(own) == n_best:
                break
        for place, score in own.items():
            scored[place] = max(score, scored.get(place, -np.inf))
    ranked = sorted(scored.items(), key=lambda item: -item[1])[:n_best]
    candidates = [(place, score, score) for place, score in ranked]
    if null_answer:
        null = min(float(window.starts[window.cls] + window.ends[window.cls]) for window in windows)
        candidates.append(((0, 0), null, null - null_threshold))
        candidates.sort(key=lambda candidate: -candidate[2])
    if not candidates:
        return []
    probs = softmax(np.array([score for _, score, _ in candidates]))
    return [
        {"score": float(prob), "start": start, "end": end, "answer": context[start:end]}
        for prob, ((start, end), _, _) in zip(probs, candidates, strict=True)
    ][:top_k]


def _trimmed(context: str, start: int, end: int) -> tuple[int, int]:
    while start < end and context[start].isspace():
        start += 1
    while end > start and context[end - 1].isspace():
        end -= 1
    return start, end
