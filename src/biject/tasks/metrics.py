"""Metrics of an evaluation, gathered batch by batch: `metrics_for(task, …)`, `update`, `result`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from biject.config.model import ProblemType
from biject.config.recipe import TagScheme
from biject.config.tasks import PREFERENCES
from biject.data.dataset import IGNORED
from biject.data.qa import QaDataset
from biject.errors import InputError
from biject.tasks.metrics_qa import QaMetrics
from biject.tasks.preference import DpoMetrics, RewardMetrics
from biject.tasks.schemes import check_scheme, entities, scheme_of
from biject.tasks.scores import Counts, f1_by_class, pearson, ratio, single_label_scores, spearman

Batch = Mapping[str, Tensor]


class Metrics(Protocol):
    """Collects outputs over the batches of an evaluation, in the data set's order."""

    def update(self, outputs: Any, batch: Any) -> None:
        """Add what the model gave for a batch, labels included."""

    def result(self) -> dict[str, float]:
        """The metrics by name."""


@runtime_checkable
class Mergeable(Protocol):
    """Metrics that ranks can collect apart from each other."""

    def merge(self, later: Any) -> None:
        """Add what another accumulator collected of the batches that follow."""


class NamedMetrics(Metrics, Protocol):
    """A task's own metrics."""

    @property
    def names(self) -> tuple[str, ...]:
        """What `result` gives."""


def metrics_for(
    task: str,
    *,
    labels: Sequence[str] = (),
    problem_type: ProblemType | None = None,
    questions: QaDataset | None = None,
    tag_scheme: TagScheme | None = None,
    beta: float = 0.1,
) -> NamedMetrics:
    """The metrics of a task.

    Args:
        task: `seqcls`, `imgcls`, `tokcls`, `qa`, `mlm`, `causal`, `dpo` or `reward`.
        labels: Names of the outputs by id.
        problem_type: Of a text classifier or regressor.
        questions: The data set that is evaluated, for qa.
        tag_scheme: Of token labels; left out, entities are counted as conlleval does.
        beta: Of dpo.

    Raises:
        InputError: There is no such task.
    """
    if task == "mlm":
        return MaskedMetrics()
    if task == "causal":
        return CausalMetrics()
    if task in PREFERENCES:
        return RewardMetrics() if task == "reward" else DpoMetrics(beta)
    if task == "tokcls":
        return TagMetrics(labels, tag_scheme)
    if task == "qa" and questions is not None:
        return QaMetrics(questions)
    if task not in ("seqcls", "imgcls"):
        raise InputError(f"There are no metrics for the task {task!r}.")
    if problem_type == "regression":
        return RegressionMetrics()
    if problem_type == "multi_label_classification":
        return MultiLabelMetrics(len(labels))
    return ClassMetrics(len(labels))


def metric_names(
    task: str, *, labels: Sequence[str] = (), problem_type: ProblemType | None = None
) -> tuple[str, ...]:
    """What an evaluation gives: `loss`, and what the task's accumulator does."""
    if task == "qa":
        return ("loss", *QaMetrics.names)
    found = metrics_for(task, labels=labels, problem_type=problem_type)
    return tuple(dict.fromkeys(("loss", *found.names)))


class ClassMetrics:
    """One class a row: `accuracy`, `f1_macro`, `f1_micro`, `matthews`."""

    names = ("accuracy", "f1_macro", "f1_micro", "matthews")

    def __init__(self, num_labels: int) -> None:
        self.confusion_NN: Counts = np.zeros((num_labels, num_labels), dtype=np.int64)

    def update(self, outputs: Any, batch: Batch) -> None:
        """Count truths and predictions; labels of -100 are left out."""
        self.count(outputs.logits.argmax(-1), batch["labels"])

    def count(self, predicted: Tensor, labels: Tensor) -> None:
        """Count classes as integers."""
        kept, size = labels != IGNORED, len(self.confusion_NN)
        cells = labels[kept].long() * size + predicted[kept]
        counts = torch.bincount(cells.reshape(-1).cpu(), minlength=size * size)
        self.confusion_NN += counts.view(size, size).numpy()

    def merge(self, later: ClassMetrics) -> None:
        """Add another's counts."""
        self.confusion_NN += later.confusion_NN

    def result(self) -> dict[str, float]:
        """The metrics by name."""
        return single_label_scores(self.confusion_NN)


class MultiLabelMetrics:
    """Several labels at once: `accuracy` (all of a row's right), `f1_macro` over all labels, `f1_micro`."""

    names = ("accuracy", "f1_macro", "f1_micro")

    def __init__(self, num_labels: int) -> None:
        self.counts_3N: Counts = np.zeros((3, num_labels), dtype=np.int64)
        """Hits, predictions, truths."""
        self.right = self.rows = 0

    def update(self, outputs: Any, batch: Batch) -> None:
        """Count labels whose logit is positive, a probability over one half."""
        predicted, true = outputs.logits > 0, batch["labels"] > 0.5
        for place, found in enumerate((predicted & true, predicted, true)):
            self.counts_3N[place] += found.sum(0).cpu().numpy()
        self.right += int((predicted == true).all(-1).sum())
        self.rows += len(true)

    def merge(self, later: MultiLabelMetrics) -> None:
        """Add another's counts."""
        self.counts_3N += later.counts_3N
        self.right, self.rows = self.right + later.right, self.rows + later.rows

    def result(self) -> dict[str, float]:
        """The metrics by name."""
        hits, predicted, true = self.counts_3N
        return {
            "accuracy": ratio(self.right, self.rows),
            "f1_macro": float(f1_by_class(hits, predicted, true).mean()),
            "f1_micro": ratio(2 * hits.sum(), predicted.sum() + true.sum()),
        }


class RegressionMetrics:
    """Numbers: `mse`, `pearson`, `spearman`; of several outputs the mean."""

    names = ("mse", "pearson", "spearman")

    def __init__(self) -> None:
        self.predicted: list[Any] = []
        self.true: list[Any] = []

    def update(self, outputs: Any, batch: Batch) -> None:
        """Keep both sides."""
        for kept, values in ((self.predicted, outputs.logits), (self.true, batch["labels"])):
            kept.append(values.double().cpu().reshape(len(batch["labels"]), -1).numpy())

    def merge(self, later: RegressionMetrics) -> None:
        """Add another's rows behind."""
        self.predicted += later.predicted
        self.true += later.true

    def result(self) -> dict[str, float]:
        """The metrics by name."""
        ours_RN, theirs_RN = np.concatenate(self.predicted), np.concatenate(self.true)
        pairs = list(zip(ours_RN.T, theirs_RN.T, strict=True))
        return {
            "mse": float(((ours_RN - theirs_RN) ** 2).mean()),
            "pearson": float(np.mean([pearson(a, b) for a, b in pairs])),
            "spearman": float(np.mean([spearman(a, b) for a, b in pairs])),
        }


class TagMetrics:
    """Labelled tokens: `accuracy`; with entities' labels their `precision`, `recall` and `f1`, as seqeval's.

    Args:
        labels: Names of the outputs by id.
        scheme: Count what this scheme's rules allow and nothing else (seqeval's strict mode).

    Raises:
        InputError: A label has a prefix that the scheme does not have.
    """

    def __init__(self, labels: Sequence[str], scheme: TagScheme | None = None) -> None:
        self.labels, self.scheme = tuple(labels), scheme
        if scheme is not None:
            check_scheme(labels, scheme)
        self.tokens = ClassMetrics(len(labels))
        self.hits = self.found = self.true = 0
        spans = bool(scheme or scheme_of(labels))
        self.names = ("accuracy", "precision", "recall", "f1") if spans else ("accuracy",)

    def update(self, outputs: Any, batch: Batch) -> None:
        """Count tokens and entities; tokens labelled -100 are left out, as if they were not there."""
        predicted, labels = outputs.logits.argmax(-1), batch["labels"]
        self.tokens.count(predicted, labels)
        for guess, truth in zip(predicted.tolist(), labels.tolist(), strict=True):
            kept = [i for i, label in enumerate(truth) if label != IGNORED]
            ours = entities([self.labels[guess[i]] for i in kept], self.scheme)
            theirs = entities([self.labels[truth[i]] for i in kept], self.scheme)
            self.hits += len(ours & theirs)
            self.found += len(ours)
            self.true += len(theirs)

    def merge(self, later: TagMetrics) -> None:
        """Add another's counts."""
        self.tokens.merge(later.tokens)
        self.hits, self.found, self.true = (
            self.hits + later.hits,
            self.found + later.found,
            self.true + later.true,
        )

    def result(self) -> dict[str, float]:
        """The metrics by name."""
        scores = {"accuracy": self.tokens.result()["accuracy"]}
        if "f1" in self.names:
            scores["precision"] = ratio(self.hits, self.found)
            scores["recall"] = ratio(self.hits, self.true)
            scores["f1"] = ratio(2 * self.hits, self.found + self.true)
        return scores


class CausalMetrics:
    """Next tokens: `loss` (their mean cross-entropy) and `perplexity`, from the losses of the batches.

    Logits are needed only where the step has a loss of its own (smoothed labels, weighted classes): over a
    whole vocabulary they may never have been in memory at once.
    """

    names: tuple[str, ...] = ("loss", "perplexity")

    def __init__(self) -> None:
        self.losses: list[tuple[float, int]] = []
        """Mean and tokens of each batch: summed at the end, in their order, whoever computed them."""

    def update(self, outputs: Any, batch: Batch) -> None:
        """Sum over labelled tokens; a row's first is never predicted."""
        labels = batch["labels"][..., 1:]
        count = int((labels != IGNORED).sum())
        if count:
            own = outputs.loss
            self.add(_plain_loss(outputs.logits[..., :-1, :], labels) if own is None else own, count)

    def add(self, loss: Any, count: int) -> None:
        """Add the mean loss of `count` tokens."""
        self.losses.append((float(loss), count))

    @property
    def tokens(self) -> int:
        """Labelled ones."""
        return sum(count for _, count in self.losses)

    def merge(self, later: CausalMetrics) -> None:
        """Add another's batches behind."""
        self.losses += later.losses

    def result(self) -> dict[str, float]:
        """The metrics by name."""
        lost = 0.0
        for mean, count in self.losses:
            lost += mean * count
        loss = ratio(lost, self.tokens)
        return {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}


class MaskedMetrics(CausalMetrics):
    """Masked tokens: `loss` and `perplexity` as above, and `accuracy`."""

    names = ("loss", "perplexity", "accuracy")

    def __init__(self) -> None:
        super().__init__()
        self.right = 0

    def update(self, outputs: Any, batch: Batch) -> None:
        """Sum over labelled tokens."""
        kept = batch["labels"] != IGNORED
        labels_T = batch["labels"][kept]
        if len(labels_T):
            best = outputs.predictions if outputs.logits is None else outputs.logits.argmax(-1)
            own = outputs.loss
            self.add(_plain_loss(outputs.logits, batch["labels"]) if own is None else own, len(labels_T))
            self.right += int((best[kept] == labels_T).sum())

    def merge(self, later: CausalMetrics) -> None:
        """Add another's batches behind, and its hits."""
        super().merge(later)
        self.right += later.right if isinstance(later, MaskedMetrics) else 0

    def result(self) -> dict[str, float]:
        """The metrics by name."""
        return super().result() | {"accuracy": ratio(self.right, self.tokens)}


def _plain_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean cross-entropy of labelled tokens, where the step gave the model no labels."""
    kept = labels != IGNORED
    return F.cross_entropy(logits[kept], labels[kept])
