"""Steps over pairs of texts: DPO against a reference, and reward models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from biject.adapters.state import adapters_of, without_adapters
from biject.config.preference import PreferenceConfig
from biject.data.pairs import REFERENCE, PairDataset
from biject.errors import InputError
from biject.events import progress
from biject.model import Model
from biject.tasks.preference import DpoMetrics, LogRatios, RewardMetrics, dpo_losses, reward_loss
from biject.train import ranks
from biject.train.batches import Collate, to_device
from biject.train.depends import data_digest, source_digests
from biject.train.loop import autocast
from biject.train.weights import num_rows

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def _inputs(batch: Any, *more: str) -> dict[str, Tensor]:
    if not isinstance(batch, Mapping) or num_rows(batch.get("input_ids")) % 2:
        raise InputError("A batch of pairs has 2 B rows, the chosen texts first: collate with PairCollator.")
    return {name: batch[name] for name in (*_INPUTS, *more) if name in batch}


def num_pairs(batch: Any) -> float:
    """What a loss over pairs is the mean of."""
    return num_rows(batch["input_ids"]) / 2


@dataclass(frozen=True, kw_only=True)
class DpoObjective:
    """A step that prefers one completion to another (Rafailov et al. 2023, arXiv:2305.18290).

    Attributes:
        config: Loss and its settings.
        reference: Computes the reference's log-probabilities, where batches do not have them; None for the
            model without its adapters.
    """

    config: PreferenceConfig
    reference: nn.Module | None = None

    def step(self, model: nn.Module, batch: Any) -> Tensor:
        """The mean loss of a batch's pairs; afterwards the batch has the reference's log-probabilities.

        Raises:
            InputError: There is no reference.
        """
        if REFERENCE[0] not in batch:
            batch.update(zip(REFERENCE, reference_log_probs(self.reference, model, batch), strict=True))
        out = model(**_inputs(batch, "labels"), output_log_probs=True)
        return dpo_losses(LogRatios.of(out.log_probs, batch), self.config).mean()

    def weigh(self, batch: Any) -> float:
        """Pairs."""
        return num_pairs(batch)

    def metrics(self) -> DpoMetrics:
        """A new accumulator."""
        return DpoMetrics(self.config.beta)


@dataclass(frozen=True, kw_only=True)
class RewardObjective:
    """A step that gives the better text the larger reward.

    Attributes:
        config: What a mean reward other than 0 costs.
    """

    config: PreferenceConfig

    def step(self, model: nn.Module, batch: Any) -> Tensor:
        """The mean loss of a batch's pairs."""
        rewards = model(**_inputs(batch)).logits.squeeze(-1)
        return reward_loss(rewards, batch, self.config.center_rewards_coefficient)

    def weigh(self, batch: Any) -> float:
        """Pairs."""
        return num_pairs(batch)

    def metrics(self) -> RewardMetrics:
        """A new accumulator."""
        return RewardMetrics()


def reference_log_probs(reference: nn.Module | None, model: nn.Module, batch: Any) -> tuple[Tensor, ...]:
    """Log-probabilities of all chosen and of all rejected completions, (B,) each, without dropout.

    Args:
        reference: What computes them; None for the model without its adapters.
        model: What is trained.
        batch: Of pairs.

    Raises:
        InputError: There is no reference, and the model has no adapter to leave out.
    """
    if reference is None and getattr(model, "adapters", None) is None:
        raise InputError(
            "dpo needs a reference: an adapter, whose model without it is one; a copy of the model as it was "
            "before training (`reference`); or log-probabilities in the samples "
            f"(`{'`, `'.join(REFERENCE)}`)."
        )
    own = model if reference is None else reference
    was_training = own.training
    own.eval()
    try:
        with torch.no_grad():
            if reference is None:
                with without_adapters(model):  # type: ignore[arg-type]  # it has adapters
                    out = model(**_inputs(batch, "labels"), output_log_probs=True)
            else:
                out = reference(**_inputs(batch, "labels"), output_log_probs=True)
    finally:
        own.train(was_training)
    found: tuple[Tensor, ...] = out.log_probs.sum(dim=1).chunk(2)
    return found


def with_reference(
    dataset: PairDataset,
    model: nn.Module,
    *,
    collate: Collate,
    batch_size: int,
    dtype: torch.dtype | None = None,
    leave_out_adapters: bool = False,
) -> PairDataset:
    """The data set with the log-probabilities of a model as it is now.

    Ranks share the batches; the numbers are those of one rank.

    Args:
        dataset: Of pairs.
        model: The reference.
        collate: Makes batches of pairs.
        batch_size: Pairs at once.
        dtype: Of autocast, as in training.
        leave_out_adapters: The reference is the model without its adapters, which are what is trained.
    """
    device, count = next(model.parameters()).device, len(dataset)
    starts = list(range(0, count, batch_size))
    first, last = (len(starts) * (ranks.rank() + more) // ranks.count() for more in (0, 1))
    own: list[tuple[float, float]] = []
    reference = None if leave_out_adapters else model
    for place, start in enumerate(starts[first:last]):
        progress("reference", place, last - first, unit="batches")
        batch = to_device(collate([dataset[i] for i in range(start, min(start + batch_size, count))]), device)
        with autocast(model, dtype):
            chosen, rejected = reference_log_probs(reference, model, batch)
        own += zip(chosen.tolist(), rejected.tolist(), strict=True)
    progress("reference", last - first, last - first, unit="batches")
    parts = ranks.everyones(own) if ranks.count() > 1 else [own]
    found: Sequence[tuple[float, float]] = [pair for part in parts for pair in part]
    chosen_all, rejected_all = zip(*found, strict=True)
    known_by = "" if reference is None else _known_by(reference)
    return dataset.with_reference(chosen_all, rejected_all, made_by=known_by)


def _known_by(reference: nn.Module) -> str:
    """A reference's files and the values of its adapters, by their sha256."""
    found = source_digests(reference)
    if isinstance(reference, Model) and reference.adapters is not None:
        adapters = adapters_of(reference).adapters
        values = [[p.detach() for p in adapter.trained()] for adapter in adapters.values()]
        found["adapters"] = str(data_digest(values))
    return repr(sorted(found.items()))
