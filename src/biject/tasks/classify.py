"""Classify: labels of texts or pairs, and regression, as HF's pipeline gives them.

Source: transformers 5.23, pipelines/text_classification.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, get_args

from biject.model import Model
from biject.tasks.common import Task
from biject.tasks.inputs import as_pairs, is_one, require
from biject.tasks.numbers import Floats, sigmoid, softmax, to_numpy

Function = Literal["softmax", "sigmoid", "none"]
Item = str | tuple[str, str] | Mapping[str, str]


class Classify(Task):
    """Gives labels to texts."""

    name: ClassVar[str] = "classify"
    head: ClassVar[str] = "seqcls"
    takes: ClassVar[tuple[str, ...]] = ("top_k", "function_to_apply")

    def __call__(
        self,
        inputs: Item | Sequence[Item],
        *,
        top_k: int | None = 1,
        function_to_apply: Function | None = None,
    ) -> list[Any]:
        """Classify one text or pair, or several.

        Args:
            inputs: texts, or pairs as tuples or as ``{"text": …, "text_pair": …}``.
            top_k: how many labels to give; None for all.
            function_to_apply: what makes scores of logits. By default none for regression, sigmoid for
                several labels at once or for a single one, else softmax.

        Returns:
            A list of `label` and `score`, best first; for several texts, a list of these.
        """
        require(top_k is None or top_k >= 1, f"`top_k` must be at least 1, or None for all; found {top_k}.")
        function = usual_function(self.model) if function_to_apply is None else function_to_apply
        require(
            function in get_args(Function),
            f"`function_to_apply` is one of {', '.join(get_args(Function))}; found {function!r}.",
        )
        texts, pairs = as_pairs(inputs, self.name, ("text", "text_pair"), needed=False)
        results: list[Any] = [None] * len(texts)
        for paired in (False, True):
            places = [i for i, pair in enumerate(pairs) if (pair is not None) == paired]
            if not places:
                continue
            seconds = [pairs[i] or "" for i in places] if paired else None
            encoded = self.encode([texts[i] for i in places], seconds)
            for batch, out in self.outputs(encoded):
                assert out.logits is not None
                for row, logits in zip(batch.rows, to_numpy(out.logits.float()), strict=True):
                    results[places[row]] = ranked(function, logits, self.labels(len(logits)), top_k)
        return results[0] if is_one(inputs) else results


def ranked(
    function: Function, logits: Floats, names: Mapping[int, str], top_k: int | None
) -> list[dict[str, Any]]:
    """Labels with their scores, best first."""
    scores = _apply(function, logits)
    order = sorted(range(len(scores)), key=lambda i: -float(scores[i]))
    return [{"label": names[i], "score": float(scores[i])} for i in order[:top_k]]


def usual_function(model: Model) -> Function:
    """What makes scores of a model's logits where nothing is asked for."""
    problem, count = model.config.head.problem_type, model.config.head.num_labels
    if problem == "regression":
        return "none"
    return "sigmoid" if problem == "multi_label_classification" or count == 1 else "softmax"


def _apply(function: Function, logits: Floats) -> Floats:
    if function == "none":
        return logits
    return sigmoid(logits) if function == "sigmoid" else softmax(logits)
