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

from biject.config.metric import smaller_is_better
from biject.distributed.sharding import is_sharded
from biject.errors import ConfigError, InputError
from biject.tasks.metrics import Mergeable, Metrics
from biject.train import generators, ranks
from biject.train.batches import Collate, Sampler, to_device
from biject.train.loop import Step, Weigh, autocast
from biject.train.predict import Predictions, has_labels, joined, labels_of, outputs_of
from biject.train.state import TrainState


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
        """Mean loss over all items, and the metrics: the numbers of one rank, to the bit.

        Each rank computes a part, where metrics can be merged (`merge(later)`) and the model is not sharded;
        else every rank sees all samples.

        Raises:
            InputError: there are metrics, but the step does not call the model.
        """
        collected = self.metrics() if self.metrics is not None else None
        lost = _Mean()
        apart = collected is None or isinstance(collected, Mergeable)
        apart = apart and ranks.count() > 1 and not is_sharded(self.model)
        for batch in self.batches(dataset, apart=apart):
            loss, outputs = self.call(batch)
            lost.add(loss, self.weigh(batch))
            if collected is not None:
                collected.update(_one(outputs), batch)
        if apart:
            lost, collected = _together(lost, collected)
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

    def batches(self, dataset: Sequence[Any], *, apart: bool = False) -> Iterator[Any]:
        """All samples in their order, on the model's device; the model evaluates meanwhile.

        With `apart` this rank's part of the batches: the first rank has the first ones.
        """
        sampler = Sampler(num_samples=len(dataset), batch_size=self.batch_size, shuffle=False)
        device = next(self.model.parameters()).device
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad(), generators.kept():
                every = sampler.batches(0)
                if apart:
                    ends = [len(every) * rank // ranks.count() for rank in range(ranks.count() + 1)]
                    every = every[ends[ranks.rank()] : ends[ranks.rank() + 1]]
                for samples in every:
                    yield to_device(self.collate([dataset[i] for i in samples]), device)
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
        self.parts: list[tuple[float, float]] = []
        """Losses and items of each batch: summed at the end, in their order, whoever computed them."""

    def add(self, loss: Any, weight: float) -> None:
        """A batch's mean loss and its items, or a sum with its own."""
        if isinstance(loss, tuple):
            self.parts.append((float(loss[0]), float(loss[1])))
        elif weight:
            self.parts.append((float(loss) * weight, weight))

    def value(self) -> float:
        """The mean; 0 without items."""
        lost = items = 0.0
        for part, count in self.parts:
            lost, items = lost + part, items + count
        return lost / items if items else 0.0


def _together(lost: _Mean, collected: Any) -> tuple[_Mean, Any]:
    """What all ranks found, in the order of the samples."""
    found = ranks.everyones((lost.parts, collected))
    whole = _Mean()
    whole.parts = [part for parts, _ in found for part in parts]
    first, *others = (metrics for _, metrics in found)
    for metrics in others if collected is not None else ():
        first.merge(metrics)
    return whole, first


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
    """Whether an evaluation beats the best, as `smaller_is_better` has it; NaN never does.

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
    return found[name] < best if smaller_is_better(metric) else found[name] > best


def judge(state: TrainState, found: dict[str, float], *, metric: str, step: int) -> bool:
    """Whether an evaluation is the best of the run so far, which the state remembers."""
    if not better(found, metric, state.best_value):
        state.evaluations_without_better += 1
        return False
    state.best_value, state.best_step = found[metric.lstrip("-")], step
    state.evaluations_without_better = 0
    return True


def judge_again(state: TrainState, metric: str) -> None:
    """The best of a run's evaluations by another metric; those that did not compute it do not count."""
    state.best_value, state.best_step, state.evaluations_without_better = None, None, 0
    for entry in state.history:
        if metric.lstrip("-") in entry:
            judge(state, entry, metric=metric, step=int(entry["step"]))


def is_over(state: TrainState, patience: int) -> bool:
    """Whether so many evaluations were no better that the run ends early."""
    return 0 < patience <= state.evaluations_without_better
