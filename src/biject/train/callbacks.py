"""`Callback`: what a user of `Trainer` wants to hear of, and do, while it trains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from biject.config.recipe import TrainConfig
from biject.errors import ConfigError
from biject.train.loop import StepResult
from biject.train.result import FitResult

EVENTS = ("on_start", "on_step", "on_evaluation", "on_checkpoint", "on_end")


@dataclass(frozen=True, kw_only=True)
class RunStart:
    """What is known before the first step.

    Attributes:
        step: Steps that are done already; more than 0 in a run that goes on.
        total_steps: Optimizer steps of the whole run.
        config: How it trains.
        num_parameters: Numbers in the model.
        num_trained: Those of them that training changes.
    """

    step: int
    total_steps: int
    config: TrainConfig = field(repr=False)
    num_parameters: int
    num_trained: int

    @classmethod
    def of(cls, model: nn.Module, config: TrainConfig, *, step: int, total_steps: int) -> RunStart:
        """Count the model's parameters."""
        sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
        return cls(
            step=step,
            total_steps=total_steps,
            config=config,
            num_parameters=sum(size for size, _ in sizes),
            num_trained=sum(size for size, trained in sizes if trained),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


class Callback:
    """Does nothing; override what you need. Called in every process, in the order of the list.

    Any object with some of these methods is a callback, too. An exception in one ends the run.
    """

    def on_start(self, start: RunStart) -> None:
        """Before the first step."""

    def on_step(self, step: int, result: StepResult) -> None:
        """After every optimizer step; `step` counts from 1."""

    def on_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """After every evaluation."""

    def on_checkpoint(self, step: int, folder: Path) -> None:
        """After a checkpoint was written."""

    def on_end(self, result: FitResult) -> None:
        """After the last step, with the model in the state that `result` names."""


class Callbacks:
    """Several callbacks as one.

    Raises:
        ConfigError: an object has none of the methods.
    """

    def __init__(self, callbacks: Iterable[Any] = ()) -> None:
        self._callbacks: list[Any] = []
        for callback in callbacks:
            self.add(callback)

    def add(self, callback: Any) -> None:
        """One more, after the others."""
        if not any(callable(getattr(callback, name, None)) for name in EVENTS):
            raise ConfigError(
                f"callbacks: {type(callback).__name__} has none of the methods {', '.join(EVENTS)}; make it "
                "a biject.Callback."
            )
        self._callbacks.append(callback)

    def call(self, event: str, *arguments: Any) -> None:
        """Call `event` of all that have it."""
        for callback in self._callbacks:
            method = getattr(callback, event, None)
            if method is not None:
                method(*arguments)
