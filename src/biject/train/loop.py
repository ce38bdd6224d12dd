"""The training step, on one page.

The contract: every labelled item of a step weighs the same, however the step is cut into batches and
ranks. The losses of a step are sums over items (a mean times its number of items), added up over batches
and ranks and divided once by the number of items. With one batch and one rank that factor is exactly 1, so
the step is plain PyTorch's to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from biject.errors import InputError
from biject.train import ranks
from biject.train.weights import num_tokens

Batch = Mapping[str, Tensor]
Step = Callable[[nn.Module, Any], Any]
"""A user's step: the mean loss of a batch, or a sum and its weight (items)."""

Weigh = Callable[[Any], float]
"""How many items the loss of a batch is the mean of."""


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """One optimizer step: the mean loss over its items, and what it was made of."""

    loss: float
    items: float
    lr: float
    grad_norm: float | None
    tokens: float = 0.0
    """Real ones, padding not counted, of all ranks."""


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

    def train_step(self, batches: Sequence[Any]) -> StepResult:
        """One optimizer step over this rank's batches (none, where the last step has too few samples).

        Raises:
            InputError: no batch of any rank has a labelled item, or the loss is not a number.
        """
        self.optimizer.zero_grad(set_to_none=True)
        weights = [self.weigh(batch) for batch in batches]
        (items,) = ranks.totals(sum(weights))
        lost, sum_items, num_sums = 0.0, 0.0, 0.0
        for batch, weight in zip(batches, weights, strict=True):
            with autocast(self.model, self.autocast_dtype):
                out = self.step(self.model, batch)
            if isinstance(out, tuple):  # a sum and its weight, known only now: divided at the end
                loss, own = out
                sum_items, num_sums = sum_items + float(own), num_sums + 1
            elif weight == 0:  # the mean of no item is no number
                continue
            else:
                loss = out * (weight / items)
            lost += float(loss.detach())
            torch.autograd.backward(self._scaled(loss))
        tokens = sum(num_tokens(batch) for batch in batches)
        loss_value, sum_items, num_sums, tokens = ranks.totals(lost, sum_items, num_sums, tokens)
        if num_sums:
            items = sum_items
        if items <= 0:
            raise InputError("A step has no labelled item: nothing to learn from. Check the labels.")
        loss_value = loss_value / items if num_sums else loss_value
        if loss_value != loss_value:
            raise InputError("The loss is not a number (NaN): lower the learning rate, or check the data.")
        lr = float(self.optimizer.param_groups[0]["lr"])
        norm = self._update(divide_by=items if num_sums else None)
        return StepResult(loss=loss_value, items=items, lr=lr, grad_norm=norm, tokens=tokens)

    def _update(self, *, divide_by: float | None) -> float | None:
        """Sum gradients over ranks, clip, step, advance the schedule."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        ranks.sum_gradients(parameters)
        for parameter in parameters if divide_by else ():
            if parameter.grad is not None:
                parameter.grad.div_(divide_by)
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        norm = None
        if self.clip_norm is not None:
            norm = float(nn.utils.clip_grad_norm_(parameters, self.clip_norm))
        if self.scaler is not None:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()
        return norm

    def _scaled(self, loss: Tensor) -> Tensor:
        return loss if self.scaler is None else self.scaler.scale(loss)


def autocast(model: nn.Module, dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    """The precision that steps and evaluations are computed in; None for that of the weights."""
    if dtype is None:
        return nullcontext()
    return torch.autocast(next(model.parameters()).device.type, dtype=dtype)
