"""Regressors: how far from the truth, and the texts that are farthest."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from biject.runs.insights.common import Held, interval, most

_MOST_POINTS = 500


def look(held: Held) -> dict[str, Any]:
    """Truths and predictions, of the first output."""
    guesses, truths = [], []
    for batch, outputs in held.outputs():
        rows = len(batch["labels"])
        guesses.append(outputs.logits.double().cpu().reshape(rows, -1).numpy())
        truths.append(batch["labels"].double().cpu().reshape(rows, -1).numpy())
    guess_BN, true_BN = np.concatenate(guesses), np.concatenate(truths)
    lost = ((guess_BN - true_BN) ** 2).mean(-1)

    def mse(chosen: npt.NDArray[np.int64]) -> float:
        return float(lost[chosen].mean())

    return {
        "intervals": {"mse": interval(mse, len(lost), share=False)},
        "points": [
            [float(t), float(g)] for t, g in zip(true_BN[:_MOST_POINTS, 0], guess_BN[:, 0], strict=False)
        ],
        "examples": [
            {
                **held.shown(held.chosen[i]),
                "label": ", ".join(f"{value:.4g}" for value in true_BN[i]),
                "prediction": ", ".join(f"{value:.4g}" for value in guess_BN[i]),
                "loss": float(lost[i]),
            }
            for i in most(lost.tolist())
        ],
    }
