"""The training step, on one page.

The contract: every labelled item of a step weighs the same, however the step is cut into batches and
ranks. The losses of a step are sums over items (a mean times its number of items), added up over batches
and ranks and divided once by the number of items. With one batch and one rank that factor is exactly 1, so
the step is plain PyTorch's to the bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from biject.distributed.gradients import GradientSums
from biject.errors import InputError
from biject.train import ranks
from biject.train.meter import Meter, RankStep, by_rank, rows
from biject.train.sharded import Idle, idle_loss
from biject.train.weights import num_items, num_tokens


@dataclass(frozen=True, kw_only=True)
class _Exchange:
    """What came of the exchange at the end of a step."""

    numbers: Sequence[float]
    by_rank: tuple[RankStep, ...] = ()
    sync_ms: float = 0.0


Batch = Mapping[str, Tensor]
Step = Callable[[nn.Module, Any], Any]
"""A user's step: the mean loss of a batch, or a sum and its weight (items)."""

Weigh = Callable[[Any], float]
"""How many items the loss of a batch is the mean of."""


@dataclass(frozen=True, kw_only=True)
class Meeting:
    """A meeting of ranks that step by themselves.

    Attributes:
        anchor: Steps of the slowest rank until the next one.
        counts: Of every rank.
        done: What every rank had done.
        divergence: The largest distance of a rank's weights from the mean, relative to it.
        guarded: The guard shrank the anchor.
        stretch: How many times as far as the mean of the ranks' ways the weights went (`outer`).
    """

    anchor: int
    counts: tuple[int, ...]
    done: tuple[int, ...]
    divergence: float
    guarded: bool
    stretch: float = 1.0


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """One optimizer step, or what was done between two meetings: the mean loss over its items, and more."""

    loss: float
    items: float
    lr: float
    grad_norm: float | None
    tokens: float = 0.0
    """Real ones, padding not counted, of all ranks."""
    by_rank: tuple[RankStep, ...] = ()
    """Each rank's part, where there are several."""
    sync_ms: float = 0.0
    """What this rank spent with the exchange itself, after the slowest had done its part."""

    meeting: Meeting | None = None
    """Of ranks that step by themselves (`cadence`, `async`)."""

    def to_json(self) -> dict[str, Any]:
        """Plain data; what only several ranks have is left out of one's."""
        left = {"by_rank", "sync_ms"} if not self.by_rank else set[str]()
        left |= {"meeting"} if self.meeting is None else set()
        return {name: value for name, value in asdict(self).items() if name not in left}


@dataclass(kw_only=True)
class Engine:
    """What a step needs; `train_step` is the whole of the arithmetic."""

    model: nn.Module
    optimizer: Optimizer
    schedule: LRScheduler | None
    step: Step
    weigh: Weigh
    clip_norm: float | None = None
    autocast_dtype: torch.dtype | None = None
    scaler: GradScaler | None = None
    meter: Meter = field(default_factory=lambda: Meter(torch.device("cpu")))
    wish: Callable[[], float] = lambda: 0.0
    """A number of this rank's that `wishes` adds up over all ranks, such as a request to stop."""
    wishes: float = 0.0
    sums: GradientSums | None = None
    sharded: bool = False
    """The model is spread over ranks, and sums its gradients by itself."""
    alone: bool = False
    """Other ranks have no part in a step."""

    def train_step(self, batches: Sequence[Any]) -> StepResult:
        """One optimizer step over this rank's batches (none, where the last step has too few samples).

        Raises:
            InputError: no batch of any rank has a labelled item, or the loss is not a number.
        """
        self.meter.begin()
        self.optimizer.zero_grad(set_to_none=True)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        sums = self._gradient_sums(parameters)
        weights = [0.0 if isinstance(batch, Idle) else self.weigh(batch) for batch in batches]
        all_items = ranks.total_later(sum(weights), waited=self.meter.waited, alone=self.alone)
        lost, sum_items, num_sums = 0.0, 0.0, 0.0
        for number, (batch, weight) in enumerate(zip(batches, weights, strict=True), 1):
            with autocast(self.model, self.autocast_dtype):
                out = self._loss(batch, weight)
            if isinstance(out, tuple):  # a sum and its weight, known only now: divided at the end
                loss, num = out
                sum_items, num_sums = sum_items + float(num), num_sums + 1
            elif weight == 0 and not self.sharded:  # the mean of no item is no number
                continue
            else:
                loss = out * (weight / all_items() if weight else 0.0)
            lost += float(loss.detach())
            if sums is not None and number == len(batches):
                sums.arm()
            torch.autograd.backward(self._scaled(loss))
        items = all_items()
        batches = [batch for batch in batches if not isinstance(batch, Idle)]
        tokens = sum(num_tokens(batch) for batch in batches)
        found = self._meet(sums, [lost, sum_items, num_sums, tokens], batches)
        loss_value, sum_items, num_sums, tokens = found.numbers
        if num_sums:
            items = sum_items
        lr = float(self.optimizer.param_groups[0]["lr"])
        if items <= 0 and self.alone:  # others may have some
            return StepResult(loss=0.0, items=0.0, lr=lr, grad_norm=None, tokens=tokens)
        if items <= 0:
            raise InputError("A step has no labelled item: nothing to learn from. Check the labels.")
        loss_value = loss_value / items if num_sums else loss_value
        if loss_value != loss_value:
            raise InputError("The loss is not a number (NaN): lower the learning rate, or check the data.")
        norm = self._update(parameters, divide_by=items if num_sums else None)
        return StepResult(
            loss=loss_value,
            items=items,
            lr=lr,
            grad_norm=norm,
            tokens=tokens,
            by_rank=found.by_rank,
            sync_ms=found.sync_ms,
        )

    def _loss(self, batch: Any, weight: float) -> Any:
        """The step's loss; where ranks only take part, of no item, one with a gradient of zeros."""
        if isinstance(batch, Idle) or (self.sharded and weight == 0):
            return idle_loss(self.model, batch if isinstance(batch, Idle) else Idle(batch))
        return self.step(self.model, batch)

    def _gradient_sums(self, parameters: Sequence[nn.Parameter]) -> GradientSums | None:
        """What adds gradients up over ranks; made anew where other parameters are trained than before."""
        if self.alone or ranks.count() == 1:
            return None
        if self.sharded:
            parameters = ()
        chosen = {id(p): p for p in parameters if p.requires_grad}
        ordered = [p for p in self.model.parameters() if chosen.pop(id(p), None) is not None]
        ordered += chosen.values()
        if self.sums is None or list(map(id, ordered)) != list(map(id, self.sums.parameters)):
            self.close()
            self.sums = GradientSums(ordered)
        return self.sums

    def close(self) -> None:
        """Leave the parameters alone from now on."""
        if self.sums is not None:
            self.sums.close()
        self.sums = None

    def _meet(self, sums: GradientSums | None, numbers: list[float], batches: Sequence[Any]) -> _Exchange:
        """Sum gradients and numbers over ranks; the time until then is this rank's work."""
        if sums is None:
            self.wishes = self.wishes if self.alone else self.wish()
            return _Exchange(numbers=numbers)
        self.meter.pause()
        started = time.perf_counter()
        work_ms = self.meter.take()
        own = rows(numbers[3] or sum(map(num_items, batches)), work_ms)
        *found, self.wishes = sums.finish([*own, *numbers, self.wish()])
        done = by_rank(found[: len(own)])
        waited = 1000 * (self.meter.now() - started) - done[ranks.rank()].wait_ms
        self.meter.begin()  # the update is work of the next step
        return _Exchange(numbers=found[len(own) :], by_rank=done, sync_ms=round(max(0.0, waited), 3))

    def _update(self, parameters: Sequence[nn.Parameter], *, divide_by: float | None) -> float | None:
        """Clip, step, advance the schedule."""
        for parameter in parameters:
            if divide_by and parameter.grad is not None:
                parameter.grad.div_(divide_by)
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        norm = None
        if self.clip_norm is not None:
            total: Any = nn.utils.clip_grad_norm_(parameters, self.clip_norm)
            norm = float(total.full_tensor() if self.sharded and hasattr(total, "full_tensor") else total)
        if self.scaler is not None:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()
        if self.sums is not None:
            self.meter.pause()
        return norm

    def _scaled(self, loss: Tensor) -> Tensor:
        return loss if self.scaler is None else self.scaler.scale(loss)


def autocast(model: nn.Module, dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    """The precision that steps and evaluations are computed in; None for that of the weights."""
    if dtype is None:
        return nullcontext()
    return torch.autocast(next(model.parameters()).device.type, dtype=dtype)
