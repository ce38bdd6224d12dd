"""What is learned from pairs: the losses of DPO and of reward models, and their metrics.

Source: trl 1.16, trainer/dpo_trainer.py (`_compute_loss`) and reward_trainer.py (`compute_loss`); the papers
are named there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from biject.config.preference import LossType, PreferenceConfig
from biject.data.dataset import IGNORED
from biject.data.pairs import MARGIN, REFERENCE

Batch = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class LogRatios:
    """How much likelier completions are to the model than to the reference, (B,) each: log-probabilities of
    whole completions, and how many tokens these have.
    """

    chosen_logps: Tensor
    rejected_logps: Tensor
    ref_chosen_logps: Tensor
    ref_rejected_logps: Tensor
    chosen_tokens: Tensor
    rejected_tokens: Tensor

    @classmethod
    def of(cls, log_probs: Tensor, batch: Batch) -> LogRatios:
        """Of a model's `log_probs`, (2 B, L - 1), and a batch with its reference's."""
        chosen, rejected = log_probs.sum(dim=1).chunk(2)
        tokens = (batch["labels"] != IGNORED).sum(dim=1).clamp(min=1.0).chunk(2)
        ref_chosen, ref_rejected = (batch[name] for name in REFERENCE)
        return cls(
            chosen_logps=chosen,
            rejected_logps=rejected,
            ref_chosen_logps=ref_chosen,
            ref_rejected_logps=ref_rejected,
            chosen_tokens=tokens[0],
            rejected_tokens=tokens[1],
        )

    @property
    def chosen(self) -> Tensor:
        """Of the chosen completions."""
        return self.chosen_logps - self.ref_chosen_logps

    @property
    def rejected(self) -> Tensor:
        """Of the rejected ones."""
        return self.rejected_logps - self.ref_rejected_logps

    @property
    def per_token(self) -> Tensor:
        """The difference of both, each divided by its tokens."""
        return self.chosen / self.chosen_tokens - self.rejected / self.rejected_tokens


def dpo_losses(ratios: LogRatios, config: PreferenceConfig) -> Tensor:
    """The loss of each pair: (B,)."""
    return _LOSSES[config.loss_type](ratios, config)


def _sigmoid(ratios: LogRatios, config: PreferenceConfig) -> Tensor:
    return -F.logsigmoid(config.beta * (ratios.chosen - ratios.rejected))


def _hinge(ratios: LogRatios, config: PreferenceConfig) -> Tensor:
    return torch.relu(1 - config.beta * (ratios.chosen - ratios.rejected))


def _ipo(ratios: LogRatios, config: PreferenceConfig) -> Tensor:
    return (ratios.per_token - 1 / (2 * config.beta)) ** 2


def _robust(ratios: LogRatios, config: PreferenceConfig) -> Tensor:
    delta, share = config.beta * (ratios.chosen - ratios.rejected), config.label_smoothing
    clean, flipped = -(1 - share) * F.logsigmoid(delta), -share * F.logsigmoid(-delta)
    return (clean - flipped) / (1 - 2 * share)


def _exo_pair(ratios: LogRatios, config: PreferenceConfig) -> Tensor:
    delta, share = config.beta * (ratios.chosen - ratios.rejected), config.label_smoothing
    better = torch.sigmoid(delta) * (F.logsigmoid(delta) - math.log1p(-share))
    return better + torch.sigmoid(-delta) * (F.logsigmoid(-delta) - math.log(share))


def _nca_pair(ratios: LogRatios, config: PreferenceConfig) -> Tensor:
    chosen, rejected = config.beta * ratios.chosen, config.beta * ratios.rejected
    return -F.logsigmoid(chosen) - 0.5 * F.logsigmoid(-chosen) - 0.5 * F.logsigmoid(-rejected)


def _bco_pair(ratios: LogRatios, config: PreferenceConfig) -> Tensor:
    return -F.logsigmoid(config.beta * ratios.chosen) - F.logsigmoid(-(config.beta * ratios.rejected))


def _sppo_hard(ratios: LogRatios, config: PreferenceConfig) -> Tensor:
    return (ratios.chosen - 0.5 / config.beta) ** 2 + (ratios.rejected + 0.5 / config.beta) ** 2


def _apo_zero(ratios: LogRatios, config: PreferenceConfig) -> Tensor:
    return 1 - torch.sigmoid(config.beta * ratios.chosen) + torch.sigmoid(config.beta * ratios.rejected)


def _apo_down(ratios: LogRatios, config: PreferenceConfig) -> Tensor:
    worse = 1 - torch.sigmoid(config.beta * (ratios.chosen - ratios.rejected))
    return torch.sigmoid(config.beta * ratios.chosen) + worse


def _sigmoid_norm(ratios: LogRatios, config: PreferenceConfig) -> Tensor:
    return -F.logsigmoid(config.beta * ratios.per_token)


_LOSSES: Mapping[LossType, Callable[[LogRatios, PreferenceConfig], Tensor]] = {
    "sigmoid": _sigmoid,
    "hinge": _hinge,
    "ipo": _ipo,
    "robust": _robust,
    "exo_pair": _exo_pair,
    "nca_pair": _nca_pair,
    "bco_pair": _bco_pair,
    "sppo_hard": _sppo_hard,
    "apo_zero": _apo_zero,
    "apo_down": _apo_down,
    "sigmoid_norm": _sigmoid_norm,
}


def reward_loss(rewards: Tensor, batch: Batch, center: float | None) -> Tensor:
    """Bradley and Terry's loss of rewards (2 B,), chosen ones first: the mean over pairs, ().

    Args:
        rewards: One a text.
        batch: With `margin` or not.
        center: How much a mean other than 0 costs (Eisenstein et al. 2023, arXiv:2312.09244, eq. 2).
    """
    chosen, rejected = rewards.chunk(2)
    apart = chosen - rejected
    loss = -F.logsigmoid(apart - batch[MARGIN] if MARGIN in batch else apart).mean()
    return loss if center is None else loss + center * torch.mean((chosen + rejected) ** 2)


class _PairMetrics:
    """Means over pairs, and how often the chosen text has the larger reward: `accuracy`."""

    names: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.parts: list[Tensor] = []
        """(B, columns) of each batch, in float64."""

    def add(self, *columns: Tensor) -> None:
        """Some pairs' values, in the order of `names` behind `accuracy`."""
        self.parts.append(torch.stack([column.detach().double().cpu() for column in columns], dim=1))

    def merge(self, later: _PairMetrics) -> None:
        """Add another's pairs behind."""
        self.parts += later.parts

    def result(self) -> dict[str, float]:
        """The metrics by name; `margin` is the mean difference of both rewards."""
        values_PC = torch.cat(self.parts)
        chosen, rejected = values_PC[:, 1], values_PC[:, 2]
        found = {"accuracy": float((chosen > rejected).double().mean())}
        means = values_PC.mean(dim=0).tolist()
        return found | dict(zip(self.names[1:], means, strict=True))


class DpoMetrics(_PairMetrics):
    """TRL's `rewards/accuracies`, `rewards/margins`, `rewards/chosen`, `rewards/rejected`, `logps/chosen`
    and `logps/rejected`, over all pairs.
    """

    names = ("accuracy", "margin", "reward_chosen", "reward_rejected", "logps_chosen", "logps_rejected")

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def update(self, outputs: Any, batch: Batch) -> None:
        """Add a batch; of several calls of the model the last is the one that is trained."""
        own = outputs[-1] if isinstance(outputs, list) else outputs
        ratios = LogRatios.of(own.log_probs, batch)
        chosen, rejected = self.beta * ratios.chosen, self.beta * ratios.rejected
        self.add(chosen - rejected, chosen, rejected, ratios.chosen_logps, ratios.rejected_logps)


class RewardMetrics(_PairMetrics):
    """TRL's `accuracy` and `margin`, and the mean reward of either side."""

    names = ("accuracy", "margin", "reward_chosen", "reward_rejected")

    def update(self, outputs: Any, batch: Batch) -> None:
        """Add a batch."""
        del batch
        chosen, rejected = outputs.logits.squeeze(-1).chunk(2)
        self.add(chosen - rejected, chosen, rejected)
