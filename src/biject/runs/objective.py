"""`Objective`: what a task minimises where that is not its head's own loss."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn

from biject.tasks.metrics import NamedMetrics


class Objective(Protocol):
    """A step of a task's own: its loss, what that is the mean of, and what evaluations count."""

    def step(self, model: nn.Module, batch: Any) -> Tensor:
        """The mean loss of a batch."""

    def weigh(self, batch: Any) -> float:
        """How many items that is the mean of."""

    def metrics(self) -> NamedMetrics:
        """A new accumulator."""
