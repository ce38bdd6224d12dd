"""Classifiers of texts and pictures: confusions, labels one by one, calibration, what surprised most."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from biject.runs.insights.common import Held, calibration, interval, most, probabilities
from biject.tasks.scores import f1_by_class, ratio, single_label_scores

_MOST_CLASSES = 30
"""A larger matrix of confusions is no picture."""


def look(held: Held) -> dict[str, Any]:
    """One class a text, or several labels."""
    if held.prepared.samples.problem_type == "multi_label_classification":
        return _several(held)
    names = list(held.prepared.samples.labels)
    shares, truths = [], []
    for batch, outputs in held.outputs():
        shares.append(probabilities(outputs.logits))
        truths.append(batch["labels"].cpu().numpy())
    p_BN, true = np.concatenate(shares), np.concatenate(truths).astype(np.int64)
    guess, sure = p_BN.argmax(-1), p_BN.max(-1)
    lost = -np.log(np.maximum(p_BN[np.arange(len(true)), true], 1e-300))

    def confusion(chosen: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        cells = np.bincount(true[chosen] * len(names) + guess[chosen], minlength=len(names) ** 2)
        return cells.reshape(len(names), len(names)).astype(np.int64)

    def metric(name: str) -> Any:
        return lambda chosen: single_label_scores(confusion(chosen))[name]

    whole = confusion(np.arange(len(true)))
    found: dict[str, Any] = {
        "intervals": {name: interval(metric(name), len(true)) for name in ("accuracy", "f1_macro")},
        "per_label": per_label(names, np.diagonal(whole), whole.sum(0), whole.sum(1)),
        "calibration": calibration(sure, guess == true),
        "examples": [
            {
                **held.shown(held.chosen[i]),
                "label": names[true[i]],
                "prediction": names[guess[i]],
                "score": float(sure[i]),
                "loss": float(lost[i]),
            }
            for i in most(lost.tolist())
        ],
    }
    if len(names) <= _MOST_CLASSES:
        found |= {"labels": names, "confusion": whole.tolist()}
    return found


def _several(held: Held) -> dict[str, Any]:
    names = list(held.prepared.samples.labels)
    logits, truths = [], []
    for batch, outputs in held.outputs():
        logits.append(outputs.logits.double().cpu().numpy())
        truths.append(batch["labels"].cpu().numpy() > 0.5)
    z_BN, true_BN = np.concatenate(logits), np.concatenate(truths)
    guess_BN = z_BN > 0
    lost = (np.logaddexp(0, z_BN) - z_BN * true_BN).sum(-1)  # binary cross-entropy with logits
    sure_BN = 1 / (1 + np.exp(-np.abs(z_BN)))

    def listed(row: npt.NDArray[np.bool_]) -> str:
        return ", ".join(name for name, here in zip(names, row, strict=True) if here) or "none"

    def f1(chosen: npt.NDArray[np.int64]) -> float:
        hits = int((guess_BN[chosen] & true_BN[chosen]).sum())
        return ratio(2 * hits, int(guess_BN[chosen].sum() + true_BN[chosen].sum()))

    right = (guess_BN == true_BN).all(-1)
    return {
        "intervals": {
            "accuracy": interval(lambda chosen: float(right[chosen].mean()), len(right)),
            "f1_micro": interval(f1, len(right)),
        },
        "per_label": per_label(names, (guess_BN & true_BN).sum(0), guess_BN.sum(0), true_BN.sum(0)),
        "calibration": calibration(sure_BN.reshape(-1), (guess_BN == true_BN).reshape(-1)),
        "examples": [
            {
                **held.shown(held.chosen[i]),
                "label": listed(true_BN[i]),
                "prediction": listed(guess_BN[i]),
                "score": float(sure_BN[i].min()),
                "loss": float(lost[i]),
            }
            for i in most(lost.tolist())
        ],
    }


def per_label(names: list[str], hits: Any, predicted: Any, true: Any) -> list[dict[str, Any]]:
    """Precision, recall, F1 and how often each label is true."""
    hits, predicted, true = (np.asarray(values, dtype=np.int64) for values in (hits, predicted, true))
    f1 = f1_by_class(hits, predicted, true)
    return [
        {
            "label": name,
            "precision": ratio(hits[i], predicted[i]),
            "recall": ratio(hits[i], true[i]),
            "f1": float(f1[i]),
            "support": int(true[i]),
        }
        for i, name in enumerate(names)
    ]
