"""The loss with class weights or smoothed labels, as a step: the head's own is replaced, nothing else.

Sources: transformers 5.23, trainer_pt_utils.py (LabelSmoother); torch.nn.functional.cross_entropy and
binary_cross_entropy_with_logits for weights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biject.config.recipe import TrainConfig
from biject.data.labelled import named_labels
from biject.errors import ConfigError, InputError
from biject.train.heads import head_of
from biject.train.weights import num_items

IGNORED = -100
_HEADS = ("seqcls", "tokcls", "mlm", "causal", "imgcls", "seq2seq")


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A loss over classes, and what it is the mean of.

    Attributes:
        weights: One a class, or None.
        smoothing: The share of each label that all classes have alike.
        head: The model's, where it is known.
    """

    weights: tuple[float, ...] | None
    smoothing: float
    head: str | None

    def step(self, model: nn.Module, batch: Any) -> Tensor:
        """The loss of a batch: the mean over its labelled items, each weighing what its class weighs.

        Raises:
            InputError: the batch has no labels, they are not of classes, or of which token is not known.
        """
        if not isinstance(batch, Mapping) or not isinstance(batch.get("labels"), Tensor):
            raise InputError("class_weights and label_smoothing need batches that are dicts with `labels`.")
        logits = model(**{name: value for name, value in batch.items() if name != "labels"}).logits
        labels = batch["labels"]
        self._check_aligned(logits)
        if self.head == "causal":
            logits, labels = logits[..., :-1, :], labels[..., 1:]
        self._check(logits)
        if labels.is_floating_point():
            return self._several(logits, labels)
        flat, labels = logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)
        if self.weights is None:
            return smoothed(flat, labels, self.smoothing)
        weight = torch.tensor(self.weights, dtype=flat.dtype, device=flat.device)
        return F.cross_entropy(flat, labels, weight=weight, label_smoothing=self.smoothing)

    def weigh(self, batch: Any) -> float:
        """What the loss of a batch is the mean of: labelled items, or their classes' weights added up."""
        labels = batch.get("labels") if isinstance(batch, Mapping) else None
        if self.weights is None or labels is None or labels.is_floating_point():
            return num_items(batch, head=self.head)
        labels = labels[..., 1:] if self.head == "causal" else labels
        counted = labels[labels != IGNORED].cpu()
        return float(torch.tensor(self.weights, dtype=torch.float64)[counted].sum())

    def _several(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.smoothing:
            raise InputError("label_smoothing is for one class a text or token, not for several or numbers.")
        if logits.shape != labels.shape or logits.shape[-1] < 2:
            raise InputError("class_weights are for classes; these labels are numbers.")
        weight = torch.tensor(self.weights, dtype=logits.dtype, device=logits.device)
        return F.binary_cross_entropy_with_logits(logits, labels, pos_weight=weight)

    def _check_aligned(self, logits: Tensor) -> None:
        if self.head is None and logits.dim() > 2:
            raise InputError(
                "class_weights and label_smoothing need to know whether a label is of its own token or of "
                "the one before, and the class of this model does not say it: set its `head_name` to tokcls "
                "or causal before the Trainer is made, or leave both out and give step=."
            )

    def _check(self, logits: Tensor) -> None:
        if self.weights is not None and len(self.weights) != logits.shape[-1]:
            raise InputError(
                f"class_weights: {len(self.weights)} weights for a model with {logits.shape[-1]} classes."
            )


def smoothed(logits: Tensor, labels: Tensor, share: float) -> Tensor:
    """Cross-entropy with labels of which a share belongs to all classes alike: (N, C), (N,) → ().

    To the bit HF's LabelSmoother, whose sum over classes is in float32.
    """
    log_probs = -F.log_softmax(logits, dim=-1)
    padding = labels.unsqueeze(-1).eq(IGNORED)
    own = log_probs.gather(dim=-1, index=labels.clamp(min=0).unsqueeze(-1)).masked_fill(padding, 0.0)
    every = log_probs.sum(dim=-1, keepdim=True, dtype=torch.float32).masked_fill(padding, 0.0)
    active = padding.numel() - padding.long().sum()
    return (1 - share) * (own.sum() / active) + share * (every.sum() / (active * log_probs.shape[-1]))


def make_objective(model: nn.Module, config: TrainConfig, dataset: Any) -> Objective | None:
    """What the config asks for; None where the head's own loss is right.

    Args:
        model: What is trained.
        config: Its `class_weights` and `label_smoothing`.
        dataset: The training data, whose labels `balanced` counts; None where there are none at hand.

    Raises:
        ConfigError: The head has no classes, or the weights do not fit them.
    """
    if config.class_weights is None and not config.label_smoothing:
        return None
    head = head_of(model)
    if head is not None and head not in _HEADS:
        raise ConfigError(f"class_weights and label_smoothing need a head with classes, found {head}.")
    weights = None if config.class_weights is None else _weights(config.class_weights, model, dataset)
    return Objective(weights=weights, smoothing=config.label_smoothing, head=head)


def _weights(given: Any, model: nn.Module, dataset: Any) -> tuple[float, ...]:
    names, count = _classes(model)
    if given == "balanced":
        return balanced(_labels(dataset), count)
    if isinstance(given, Mapping):
        known = {name: i for i, name in enumerate(names)} or {str(i): i for i in range(count)}
        if not known:
            raise ConfigError(
                "class_weights by name: the model says neither names nor the number of its classes; give a "
                "list with a weight for each of them."
            )
        strange = sorted(set(map(str, given)) - set(known))
        if strange:
            raise ConfigError(
                f"class_weights: the model has no class {strange[0]!r}; there are {', '.join(known)}."
            )
        weights = [1.0] * len(known)
        for name, value in given.items():
            weights[known[str(name)]] = float(value)
        return tuple(weights)
    if count and len(given) != count:
        raise ConfigError(f"class_weights: {len(given)} weights for a model with {count} classes.")
    return tuple(map(float, given))


def _classes(model: nn.Module) -> tuple[tuple[str, ...], int]:
    """Names of the classes and how many there are; none and 0 where that is not known."""
    config, names, head = getattr(model, "config", None), named_labels(model), head_of(model)
    where = getattr(config, "head", None)
    if where is None and head in ("mlm", "causal", "seq2seq"):  # what their configs say is of no use
        return (), 0
    if where is None and head is not None:
        where = config
    count = getattr(where, "num_labels", None)
    return names, len(names) if count is None else int(count)


def _labels(dataset: Any) -> list[int]:
    if dataset is None or not hasattr(dataset, "__len__"):
        raise ConfigError(
            "class_weights = balanced counts the labels of the training data, which are not at hand: call "
            "`fit` first, train on data with a length, or give numbers."
        )
    found: list[int] = []
    for i in range(len(dataset)):
        sample = dataset[i]
        value = sample.get("labels") if isinstance(sample, Mapping) else None
        plain = value.tolist() if isinstance(value, Tensor) else value
        own = [] if plain is None else plain if isinstance(plain, list | tuple) else [plain]
        if any(isinstance(value, float) for value in own):
            raise ConfigError("class_weights = balanced needs one class a text or token; give numbers.")
        found += own
    return [label for label in found if label != IGNORED]


def balanced(labels: Sequence[int], num_classes: int) -> tuple[float, ...]:
    """N / (classes · count), as scikit-learn's `compute_class_weight`; 1 for a class without a label."""
    counts = Counter(labels)
    return tuple(len(labels) / (num_classes * counts[i]) if counts[i] else 1.0 for i in range(num_classes))
