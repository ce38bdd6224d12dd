"""`SyncConfig`: how ranks of a run share its work; the recipe's `[sync]`. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

from biject.config.settings import check_names, not_among, not_positive, refuse

SyncMode = Literal["step", "cadence", "async"]
Outer = Literal["matched", "none", "nesterov"]
ShardType = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class SyncConfig:
    """How ranks share the work of a run under torchrun; one process alone does all of it.

    Attributes:
        mode: `step`: every optimizer step is one batch of all ranks together; `cadence`: ranks step by
            themselves and average their weights now and then; `async`: the same, and nobody waits for the
            averaging.
        shares: Of the work: `measured` follows each rank's speed, `equal` does not and so repeats a run to
            the bit, or relative shares of the ranks, e.g. `[2.0, 1.0]`.
        anchor: Steps of the slowest rank between meetings, at first (`cadence`, `async`).
        min_anchor: The fewest.
        max_anchor: The most; left out, a fiftieth of the run's steps, between `anchor` and 200: ranks that
            meet seldom learn less.
        overhead_target: What meetings may cost, relative to the work between them.
        max_batch_diff: By how many steps a rank's count may change at a meeting; left out, any number.
        divergence_threshold: Distance of a rank's weights from the mean, relative to it, above which three
            rises in a row halve the anchor.
        speed_hint: Relative speeds of the ranks, until they are measured, e.g. `[2.3, 1.0]`.
        average_moments: Average the optimizer's moments, too; left out, every rank keeps its own.
        outer: What is done with the average: `matched` goes as far beyond it as one process with the batches
            of all ranks would have gone (of Adam and the like, whose steps are shorter of smaller batches);
            `none` takes it, `nesterov` steps towards it with momentum.
        outer_lr: Rate of the step of `nesterov`.
        outer_momentum: Its momentum.
        overshoot: Steps that a rank may be ahead of an averaging that is not done (`async`).
        timeout: Seconds until ranks that wait for another one give up.
        shard: Spread the model over the ranks (FSDP2), for one that does not fit a device (`step`).
        shard_dtype: What a sharded model is computed in; its parts and sums of gradients stay in float32.
        offload: Keep a sharded model's parts in the CPU's memory, and update them there.
    """

    mode: SyncMode = "step"
    shares: Literal["measured", "equal"] | tuple[float, ...] = "measured"
    anchor: int = 10
    min_anchor: int = 1
    max_anchor: int | None = None
    overhead_target: float = 0.10
    max_batch_diff: int | None = None
    divergence_threshold: float = 0.05
    speed_hint: tuple[float, ...] | None = None
    average_moments: bool = False
    outer: Outer = "matched"
    outer_lr: float = 0.7
    outer_momentum: float = 0.9
    overshoot: int = 10
    timeout: float = 1800.0
    shard: bool = False
    shard_dtype: ShardType = "float32"
    offload: bool = False

    def __post_init__(self) -> None:
        """Raise `ConfigError` for values that cannot be used, all in one message."""
        for name in ("shares", "speed_hint"):
            if isinstance(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        kinds = {"mode": SyncMode, "outer": Outer, "shard_dtype": ShardType}
        faults = not_among(self, kinds, of="sync")
        if self.shares not in ("measured", "equal") and not _positive(self.shares):
            faults.append(
                f"`sync.shares` should be measured, equal, or a number above 0 for each rank, found "
                f"{self.shares!r}"
            )
        if self.speed_hint is not None and not _positive(self.speed_hint):
            faults.append(
                f"`sync.speed_hint` should be a number above 0 for each rank, found {self.speed_hint!r}"
            )
        if not 1 <= self.min_anchor <= self.anchor <= (self.max_anchor or self.anchor):
            faults.append(
                "`sync.anchor` should be between min_anchor (at least 1) and max_anchor, found "
                f"{self.min_anchor}, {self.anchor}, {self.max_anchor}"
            )
        if not 0.01 <= self.overhead_target <= 0.5:
            faults.append(f"`sync.overhead_target` should be from 0.01 to 0.5, found {self.overhead_target}")
        if self.max_batch_diff is not None and self.max_batch_diff < 1:
            faults.append(f"`sync.max_batch_diff` should be at least 1, found {self.max_batch_diff}")
        if not 0 <= self.outer_momentum < 1:
            faults.append(
                f"`sync.outer_momentum` should be at least 0 and below 1, found {self.outer_momentum}"
            )
        if self.shard and self.mode != "step":
            faults.append(f"`sync.shard` is for `mode` step, found {self.mode}")
        if not self.shard and (self.offload or self.shard_dtype != "float32"):
            faults.append("`sync.offload` and `sync.shard_dtype` are for `sync.shard`, which is not set")
        positive = ("divergence_threshold", "outer_lr", "overshoot", "timeout")
        faults += not_positive(self, positive, of="sync", below=float("inf"))
        refuse(faults)

    @classmethod
    def of(cls, values: dict[str, Any]) -> Self:
        """From plain values.

        Raises:
            ConfigError: a name that is no setting.
        """
        check_names(cls, values, of="sync")
        return cls(**values)


ALIKE = SyncConfig()
"""The default, one object for all recipes."""


def _positive(values: Any) -> bool:
    return (
        isinstance(values, tuple)
        and bool(values)
        and all(
            isinstance(v, int | float) and not isinstance(v, bool) and 0 < v < float("inf") for v in values
        )
    )
