"""Evaluation during training: token-weighted loss and metrics over a whole data set.

The loss is that of the trainer's step, computed in the precision of training; metrics get what the model gave
inside of that step, so that steps and modules of any kind can be evaluated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from biject.errors import ConfigError, InputError
from biject.tasks.metrics import Metrics
from biject.train import generators, ranks
from biject.train.batches import Collate, Sampler, to_device
from biject.train.loop import Step, Weigh, autocast
from biject.train.predict import Predictions, has_labels, joined, labels_of, outputs_of


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """How a model is evaluated: as it is trained, but for dropout and gradients."""

    model: nn.Module
    step: Step
    weigh: Weigh
    collate: Collate
    batch_size: int
    autocast_dtype: torch.dtype | None = None
    metrics: Callable[[], Metrics] | None = None

    def evaluate(self, dataset: Sequence[Any]) -> dict[str, float]:
        """Mean loss over all items, and the metrics; every rank sees all samples, so that all agree.

        Raises:
            InputError: there are metrics, but the step does not call the model.
        """
        collected = self.metrics() if self.metrics is not None else None
        lost = _Mean()
        for batch in self.batches(dataset):
            loss, outputs = self.call(batch)
            lost.add(loss, self.weigh(batch))
            if collected is not None:
                collected.update(_one(outputs), batch)
        found = {"loss": lost.value()}
        more = collected.result() if collected is not None else {}
        return ranks.same(found | {name: value for name, value in more.items() if name not in found})

    def predict(self, dataset: Sequence[Any]) -> Predictions:
        """Outputs and labels of all samples; loss and metrics where they have labels.

        Raises:
            InputError: the step does not call the model, or the model gives no outputs by row.
        """
        collected = self.metrics() if self.metrics is not None else None
        outputs: list[tuple[Tensor, ...]] = []
        labels: list[tuple[Tensor, ...]] = []
        lost, labelled = _Mean(), True
        for batch in self.batches(dataset):
            if has_labels(batch):
                loss, given = self.call(batch)
                lost.add(loss, self.weigh(batch))
                if collected is not None:
                    collected.update(_one(given), batch)
            else:
                labelled = False
                with autocast(self.model, self.autocast_dtype):
                    given = [self.model(**batch)]
            outputs.append(outputs_of(_one(given)))
            labels.append(labels_of(batch))
        found = joined(outputs)
        assert found is not None
        if not labelled:
            return Predictions(found, None, {})
        more = collected.result() if collected is not None else {}
        metrics = ranks.same({"loss": lost.value()} | {k: v for k, v in more.items() if k != "loss"})
        return Predictions(found, joined(labels), metrics)

    def batches(self, dataset: Sequence[Any]) -> Iterator[Any]:
        """All samples in their order, on the model's device; the model evaluates meanwhile."""
        sampler = Sampler(num_samples=len(dataset), batch_size=self.batch_size, shuffle=False)
        device = next(self.model.parameters()).device
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad(), generators.kept():
                for shares in sampler.steps(0):
                    yield to_device(self.collate([dataset[i] for i in shares[0][0]]), device)
        finally:
            self.model.train(was_training)

    def call(self, batch: Any) -> tuple[Any, list[Any]]:
        """What the step returns for a batch, and what the model gave in it, in float32."""
        with _recorded(self.model) as outputs, autocast(self.model, self.autocast_dtype):
            loss = self.step(self.model, batch)
        return loss, [_in_float32(given) for given in outputs]


class _Mean:
    """The mean of losses over their items."""

    def __init__(self) -> None:
        self.lost = self.items = 0.0

    def add(self, loss: Any, weight: float) -> None:
        """A batch's mean loss and its items, or a sum with its own."""
        if isinstance(loss, tuple):
            self.lost, self.items = self.lost + float(loss[0]), self.items + float(loss[1])
        elif weight:
            self.lost, self.items = self.lost + float(loss) * weight, self.items + weight

    def value(self) -> float:
        """The mean; 0 without items."""
        return self.lost / max(self.items, 1.0)


@contextmanager
def _recorded(model: nn.Module) -> Iterator[list[Any]]:
    """The outputs of every call of the model inside the block."""
    found: list[Any] = []
    hook = model.register_forward_hook(lambda module, arguments, output: found.append(output))
    try:
        yield found
    finally:
        hook.remove()


def _one(outputs: list[Any]) -> Any:
    """What metrics get: the outputs of the model's call, a list where a step calls it several times."""
    if not outputs:
        raise InputError(
            "`metrics` needs the model's outputs, but `step` did not call the model: call `model(…)` in it "
            "(not a part of the model or a method of it), or leave `metrics` out."
        )
    return outputs[0] if len(outputs) == 1 else outputs


def _in_float32(value: Any) -> Any:
    """Outputs of autocast as NumPy can take them."""
    if isinstance(value, Tensor):
        return value.float() if value.dtype in (torch.bfloat16, torch.float16) else value
    if is_dataclass(value) and not isinstance(value, type):
        found = {field.name: getattr(value, field.name) for field in fields(value) if field.init}
        return replace(value, **{name: _in_float32(part) for name, part in found.items()})
    if type(value) in (list, tuple):
        return type(value)(_in_float32(part) for part in value)
    if isinstance(value, Mapping):
        return {name: _in_float32(part) for name, part in value.items()}
    return value


def better(found: dict[str, float], metric: str, best: float | None) -> bool:
    """Whether an evaluation beats the best; `-loss` means that smaller is better, and NaN never is.

    Raises:
        ConfigError: the metric was not computed.
    """
    name = metric.lstrip("-")
    if name not in found:
        raise ConfigError(f"metric: {name!r} is not computed; there are {', '.join(found)}.")
    if math.isnan(found[name]):
        return False
    if best is None:
        return True
    return found[name] < best if metric.startswith("-") else found[name] > best
