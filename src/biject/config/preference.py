"""`PreferenceConfig`: what is learned from pairs of texts, one preferred to the other; the recipe's
`[preference]`. No torch.

Names and defaults are those of TRL 1.16's DPOConfig and RewardConfig.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from biject.config.tasks import PREFERENCES
from biject.errors import ConfigError

LossType = Literal[
    "sigmoid",
    "hinge",
    "ipo",
    "robust",
    "exo_pair",
    "nca_pair",
    "bco_pair",
    "sppo_hard",
    "apo_zero",
    "apo_down",
    "sigmoid_norm",
]
_SMOOTHED = ("robust", "exo_pair")


@dataclass(frozen=True, kw_only=True)
class PreferenceConfig:
    """What is learned from pairs.

    Attributes:
        beta: How much leaving the reference costs; of `ipo` its τ (dpo).
        loss_type: The loss, by TRL's names (dpo).
        label_smoothing: The share of pairs whose preference is taken to be wrong, for `robust` and `exo_pair`
            (dpo).
        reference_model: A checkpoint whose log-probabilities are the reference; left out, the model as it was
            before training (dpo).
        precompute_ref_log_probs: Compute the reference's log-probabilities once, before training; False
            computes them in every step, by the model without its adapter or by a second copy. Left out, true
            but for an adapter (dpo).
        center_rewards_coefficient: Of the squared sum of both rewards, which pulls rewards to a mean of 0
            (reward).
        disable_dropout: Train without dropout.
    """

    beta: float = 0.1
    loss_type: LossType = "sigmoid"
    label_smoothing: float = 0.0
    reference_model: str | None = None
    precompute_ref_log_probs: bool | None = None
    center_rewards_coefficient: float | None = None
    disable_dropout: bool = True

    def __post_init__(self) -> None:
        """Raise `ConfigError` for values that cannot be trained with, all in one message."""
        faults = []
        if not 0 < self.beta < float("inf"):
            faults.append(f"`beta` should be positive, found {self.beta}")
        if self.loss_type not in get_args(LossType):
            faults.append(f"`loss_type` should be one of {', '.join(get_args(LossType))}")
        smoothing, kinds = self.label_smoothing, " and ".join(_SMOOTHED)
        if not 0 <= smoothing < (0.5 if self.loss_type == "robust" else 1):
            most = "0.5" if self.loss_type == "robust" else "1"
            faults.append(f"`label_smoothing` should be at least 0 and below {most}, found {smoothing}")
        if smoothing and self.loss_type not in _SMOOTHED:
            faults.append(f"`label_smoothing` is for `loss_type` {kinds}, found {self.loss_type}")
        if self.loss_type == "exo_pair" and not smoothing:
            faults.append("`loss_type` exo_pair needs a `label_smoothing` above 0 (its paper takes 0.001)")
        if self.center_rewards_coefficient is not None and not self.center_rewards_coefficient >= 0:
            faults.append("`center_rewards_coefficient` should not be negative")
        if faults:
            raise ConfigError("The recipe's [preference] cannot be used: " + "; ".join(faults) + ".")


USUAL_PREFERENCE = PreferenceConfig()


def faults_of(
    task: str, preference: PreferenceConfig, *, reweighted: bool, shard: bool, new_head: bool
) -> list[str]:
    """What of a recipe does not fit its task, or a task of pairs.

    Args:
        task: The recipe's.
        preference: Its `[preference]`.
        reweighted: It has `class_weights` or `label_smoothing` in `[train]`.
        shard: It spreads the model over processes.
        new_head: It asks for a new head.
    """
    if task not in PREFERENCES:
        named = " or ".join(PREFERENCES)
        return [] if preference == USUAL_PREFERENCE else [f"`preference` is for `task` {named}, found {task}"]
    faults = []
    if reweighted:
        faults.append(
            f"`train.class_weights` and `train.label_smoothing` have no meaning for `task` {task}: pairs "
            "have no classes (`preference.label_smoothing` is about pairs)"
        )
    if shard:
        faults.append(
            f"`sync.shard` is not for `task` {task}, whose steps over pairs need a model in one piece"
        )
    if task == "dpo" and new_head:
        faults.append("`new_head` is not for `task` dpo: a new language model has no reference")
    return faults
