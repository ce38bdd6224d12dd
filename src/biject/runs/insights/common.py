"""Held-out samples, batch by batch; and how sure a metric is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from biject.config.recipe import FinetuneRecipe
from biject.data.dataset import IGNORED
from biject.data.imgcls import PICTURE
from biject.data.picture_batch import PictureCollator
from biject.pictures.thumbnail import thumbnail
from biject.runs.prepare import Prepared
from biject.train.evaluate import Evaluator
from biject.train.loop import autocast
from biject.train.session import AUTOCAST
from biject.train.weights import head_step, num_items

Floats = npt.NDArray[np.float64]

MOST_SAMPLES = 2000
"""More would make a run wait for its report."""
MOST_EXAMPLES = 12
_RESAMPLES = 1000
_TEXT_LETTERS = 600


@dataclass(frozen=True, kw_only=True)
class Held:
    """Some of the samples that a run evaluates on, spread over all of them.

    Attributes:
        prepared: Model, tokenizer, labels.
        dataset: All that the run evaluates on.
        chosen: Which of them are looked at, in order.
        evaluator: Computes them as the run's evaluations do.
    """

    prepared: Prepared
    dataset: Sequence[Any]
    chosen: Sequence[int]
    evaluator: Evaluator
    tag_scheme: Any = None

    @classmethod
    def of(cls, recipe: FinetuneRecipe, prepared: Prepared) -> Held:
        """As many as are quick."""
        dataset = prepared.samples.evaluation
        assert dataset is not None
        own = prepared.objective
        evaluator = Evaluator(
            model=prepared.model,
            step=head_step if own is None else own.step,
            weigh=num_items if own is None else own.weigh,
            collate=prepared.collate,
            batch_size=recipe.train.batch_size,
            autocast_dtype=AUTOCAST[recipe.train.precision],
        )
        return cls(
            prepared=prepared,
            dataset=dataset,
            chosen=spread(len(dataset), MOST_SAMPLES),
            evaluator=evaluator,
            tag_scheme=recipe.tag_scheme,
        )

    def outputs(self) -> Iterator[tuple[Any, Any]]:
        """Batches of the chosen samples, and what the model gives for them; no label is shown to it."""
        model, dtype = self.prepared.model, self.evaluator.autocast_dtype
        hidden = ("labels", "start_positions", "end_positions")
        for batch in self.evaluator.batches([self.dataset[i] for i in self.chosen]):
            shown = {name: value for name, value in batch.items() if name not in hidden}
            with autocast(model, dtype):
                yield batch, model(**shown)

    def shown(self, index: int) -> dict[str, str]:
        """What the model read of a sample: `text` without special tokens, or `picture` and its name."""
        sample, collate = self.dataset[index], self.prepared.collate
        if isinstance(collate, PictureCollator):
            found = sample[PICTURE]
            name = found.name.encode(errors="backslashreplace").decode()  # files may be called anything
            return {"text": shortened(name), "picture": thumbnail(collate.array(found))}
        ids = sample["input_ids"]
        return {"text": shortened(self.prepared.tokenizer.decode(ids, skip_special_tokens=True))}


def spread(count: int, most: int) -> list[int]:
    """At most so many of `count` places, evenly."""
    if count <= most:
        return list(range(count))
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})


def shortened(text: str, most: int = _TEXT_LETTERS) -> str:
    """A text's beginning."""
    return text if len(text) <= most else text[: most - 1] + "…"


def interval(
    statistic: Callable[[npt.NDArray[np.int64]], float], count: int, *, share: bool = True
) -> dict[str, float]:
    """A metric and its 95 % interval by the bootstrap over samples (Efron 1979; percentiles).

    Args:
        statistic: The metric of some samples, by their places; some may come several times.
        count: Samples.
        share: It is between 0 and 1.
    """
    rng = np.random.default_rng(0)
    values = [statistic(rng.integers(0, count, count)) for _ in range(_RESAMPLES)]
    low, high = (float(bound) for bound in np.percentile(values, [2.5, 97.5]))
    value = float(statistic(np.arange(count)))
    if share and low == high and value in (0.0, 1.0):  # all alike: resampling sees no chance of another one
        low, high = wilson(value, count)
    return {"value": value, "low": low, "high": high}


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share. Source: Wilson 1927, J. Am. Stat. Assoc. 22 (158), 209-212."""
    z = 1.959964
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def calibration(confidence: Floats, right: npt.NDArray[np.bool_], bins: int = 10) -> dict[str, Any]:
    """How often the model is right where it is so sure, and the expected calibration error.

    Source: Guo et al. 2017, arXiv:1706.04599, section 2 (ECE; bins of equal width).
    """
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    found = []
    for index in range(bins):
        inside = place == index
        if not inside.any():
            continue
        found.append(
            {
                "low": index / bins,
                "high": (index + 1) / bins,
                "count": int(inside.sum()),
                "confidence": float(confidence[inside].mean()),
                "accuracy": float(right[inside].mean()),
            }
        )
    total = sum(bin_["count"] for bin_ in found)
    gaps = (bin_["count"] * abs(bin_["accuracy"] - bin_["confidence"]) for bin_ in found)
    return {"bins": found, "ece": sum(gaps) / max(total, 1)}


def probabilities(logits: torch.Tensor) -> Floats:
    """Softmax over the last axis, in float64."""
    found: Floats = logits.detach().double().softmax(-1).cpu().numpy()
    return found


def most(scores: Sequence[float], count: int = MOST_EXAMPLES) -> list[int]:
    """Places of the largest scores, largest first."""
    return [int(i) for i in np.argsort(-np.asarray(scores), kind="stable")[:count]]


__all__ = ["IGNORED", "Held", "calibration", "interval", "most", "probabilities", "shortened", "spread"]
