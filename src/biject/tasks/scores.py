"""Scores of predictions against truths: plain functions on counts, numbers, tags and texts.

Sources: F1 and Matthews' correlation as in scikit-learn 1.7 (metrics/_classification.py: macro averages of
single labels run over the classes that occur in truths or predictions; a quotient without a divisor is 0);
entities as in seqeval 1.2 (default mode: an `I-` after another type begins an entity); answers as in SQuAD's
evaluate-v2.0.py (Rajpurkar et al. 2018, arXiv:1806.03822).
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from biject.events import notice

Numbers = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


def ratio(part: float, whole: float) -> float:
    """`part / whole`, 0 where there is nothing."""
    return float(part) / float(whole) if whole else 0.0


def f1_by_class(hits: Counts, predicted: Counts, true: Counts) -> Numbers:
    """F1 of each class from the counts of hits, predictions and truths; 0 for a class that does not occur."""
    whole = predicted + true
    scores: Numbers = np.divide(2.0 * hits, whole, out=np.zeros(len(hits)), where=whole > 0)
    return scores


def single_label_scores(confusion_NN: Counts) -> dict[str, float]:
    """Accuracy, F1, Matthews' correlation from a matrix of counts: rows are truths, columns predictions."""
    hits, total = np.diagonal(confusion_NN), int(confusion_NN.sum())
    true, predicted = confusion_NN.sum(axis=1), confusion_NN.sum(axis=0)
    occurs = true + predicted > 0
    covariance = float(hits.sum()) * total - float(true @ predicted)
    spread = (float(total) ** 2 - float(predicted @ predicted)) * (float(total) ** 2 - float(true @ true))
    accuracy = ratio(hits.sum(), total)
    return {
        "accuracy": accuracy,
        "f1_macro": float(f1_by_class(hits, predicted, true)[occurs].mean()) if occurs.any() else 0.0,
        "f1_micro": accuracy,
        "matthews": ratio(covariance, spread**0.5),
    }


def pearson(first: Numbers, second: Numbers) -> float:
    """Correlation; NaN and a warning where either does not vary, as in SciPy."""
    a, b = first - first.mean(), second - second.mean()
    if (first == first[0]).all() or (second == second[0]).all():
        notice("constant-input", "A correlation was requested of values that are all the same: it is NaN.")
        return math.nan
    return ratio(float(a @ b), float(np.sqrt(a @ a) * np.sqrt(b @ b)))


def spearman(first: Numbers, second: Numbers) -> float:
    """Correlation of ranks; equal values share the mean of their ranks."""
    return pearson(_ranks(first), _ranks(second))


def _ranks(values: Numbers) -> Numbers:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    means: Numbers = np.cumsum(counts) - (counts - 1) / 2.0
    return means[place]


def answer_scores(predicted: str, answers: Sequence[str]) -> tuple[float, float]:
    """Exact match and F1 of words against the best of several answers; none at all means that "" is right."""
    truths = [_normal(answer) for answer in answers if _normal(answer)] or [""]
    guess = _normal(predicted)
    return max(float(guess == truth) for truth in truths), max(_words_f1(guess, truth) for truth in truths)


def _words_f1(guess: str, truth: str) -> float:
    ours, theirs = guess.split(), truth.split()
    if not ours or not theirs:
        return float(ours == theirs)
    shared = sum((Counter(ours) & Counter(theirs)).values())
    return ratio(2 * shared, len(ours) + len(theirs))


def _normal(text: str) -> str:
    """Lower case, without punctuation, articles and extra spaces."""
    plain = "".join(char for char in text.lower() if char not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", plain).split())
