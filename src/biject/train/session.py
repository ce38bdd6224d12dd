"""`Session`: a model with its data and optimizer, ready to step; it owns the run's state."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from biject.checkpoint.content import Content
from biject.config.recipe import TrainConfig
from biject.config.sync import SyncConfig
from biject.distributed.sharding import is_sharded
from biject.distributed.shares import Shares
from biject.errors import CheckpointError, ConfigError, InputError
from biject.quantize import refuse_training
from biject.train import checkpoints, depends, generators, ranks, sharded
from biject.train.batches import Collate, Sampler, to_device
from biject.train.evaluate import is_over, judge_again
from biject.train.feed import Feed
from biject.train.loop import Engine, Step, StepResult, Weigh
from biject.train.meter import Meter
from biject.train.optim import freeze, make_optimizer, make_schedule
from biject.train.rounds import Rounds, Window
from biject.train.saving import Saver
from biject.train.state import SavedState, TrainState, read_state, restore

AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "f16": torch.float16}
"""What each precision computes in."""

_MAY_DIFFER = {
    "evaluate_every", "checkpoint_every", "keep", "metric", "patience", "deterministic",
    "gradient_checkpointing", "load_best", "epochs", "max_steps", "checkpoint_async",
}  # fmt: skip
"""Settings that a resumed run may change: no weight depends on them, or only later ones (`epochs` and
`max_steps`).
"""


class Session:
    """Everything that the steps of one run share.

    Args:
        model: what to train.
        dataset: samples (with a length), or an iterable of batches.
        config: how to train.
        step: gives the loss of a batch.
        weigh: gives the items that a mean loss is the mean of.
        collate: makes a batch of samples.
        optimizer: an optimizer, or a function from the model to one; None for the config's.
        schedule: a function from (optimizer, total steps) to a schedule; None for the config's.
        without: assets of the model's source that checkpoints leave out.
        sync: how ranks share the work.

    Attributes:
        state: the run's progress.
        engine: the arithmetic of a step.
        total_steps: optimizer steps of the whole run.
        epoch_ended: whether the last step was an epoch's last.
        saver: writes checkpoints.
        extra: files that checkpoints have beside the model's, by name.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        dataset: Sequence[Any] | Iterable[Any],
        config: TrainConfig,
        step: Step,
        weigh: Weigh,
        collate: Collate,
        optimizer: Optimizer | Callable[[nn.Module], Optimizer] | None = None,
        schedule: Callable[[Optimizer, int], LRScheduler] | None = None,
        without: Collection[str] = (),
        sync: SyncConfig | None = None,
    ) -> None:
        self.model, self.config, self.collate, self.without = model, config, collate, without
        self.extra: Mapping[str, Content] = {}
        self.dataset: Any = dataset
        self.eval_dataset: Any = None
        self._digests: dict[str, str] | None = None
        self.state = TrainState()
        self.epoch_ended = False
        self.sync = sync or SyncConfig()
        self._start()
        self.shares = self._make_shares()
        self.sampler = self._make_sampler(dataset)
        self.total_steps = self._count_steps()
        self.optimizer = self._make_optimizer(optimizer)
        self._make_schedule = schedule or (lambda optimizer, steps: make_schedule(optimizer, config, steps))
        self.schedule = self._make_schedule(self.optimizer, self.total_steps)
        self.scaler = GradScaler(self.device.type) if config.precision == "f16" else None
        self.engine = Engine(
            model=self._prepare_model(),
            optimizer=self.optimizer,
            schedule=self.schedule,
            step=step,
            weigh=weigh,
            clip_norm=config.clip_norm,
            autocast_dtype=AUTOCAST[config.precision],
            scaler=self.scaler,
            meter=Meter(self.device),
            sharded=self.sharded,
        )
        if not self.sharded:
            ranks.broadcast(t.detach() for t in (*self.model.parameters(), *self.model.buffers()))
        self.feed = Feed(
            dataset, self.sampler, collate, self.shares, self.engine.meter, together=self.sharded
        )
        alone = self.sync.mode == "step" or ranks.count() == 1
        self.rounds = None if alone else Rounds(self)
        self.saver = Saver(self)

    def _start(self) -> None:
        """Ranks, seeds and frozen parameters, before anything is drawn or counted."""
        ranks.start(timeout=self.sync.timeout)
        self.sharded = is_sharded(self.model)
        if self.sharded and (self.sync.mode != "step" or self.config.precision == "f16"):
            raise ConfigError("A model that is sharded trains with sync='step', and not in f16.")
        if ranks.count() > 1 and not self.sharded:
            self.model.to(ranks.own_device(self.device))
        refuse_training(self.model)
        generators.seed_all(self.config.seed)
        if self.config.deterministic:
            torch.use_deterministic_algorithms(True)
        if self.config.freeze:
            freeze(self.model, self.config.freeze)

    @property
    def step_ranks(self) -> int:
        """Ranks whose batches make up a step: those that the run began with."""
        return int(self.state.sync.get("ranks", ranks.count()))

    @property
    def device(self) -> torch.device:
        """The model's device."""
        return next(self.model.parameters()).device

    def windows(self) -> Iterator[Sequence[Any]]:
        """This rank's batches of every remaining step, or what it does until each meeting."""
        self.model.train()
        while self.state.step < self.total_steps and not self.state.stopped_early:
            if self.rounds is not None:
                epoch = self.state.epoch
                self.feed.set_epoch(epoch)
                for part in self.rounds.windows(epoch):
                    yield part
                    if self.state.step >= self.total_steps or self.state.stopped_early:
                        return
                continue
            seen = self.state.step_in_epoch
            at_once = self.config.accumulate * self.step_ranks
            steps = self.feed.steps(self.state.epoch, skip=seen, at_once=at_once, device=self.device)
            for window, is_last in steps:
                seen += 1
                self.epoch_ended = is_last
                yield window
                if self.state.step >= self.total_steps or self.state.stopped_early:
                    return
            if seen == 0:
                raise InputError("The data set gave no batch.")
            if self.state.step_in_epoch:
                self.state.epoch, self.state.step_in_epoch = self.state.epoch + 1, 0

    def step(self, window: Sequence[Any]) -> StepResult:
        """One optimizer step; in `cadence` and `async` all of them until the next meeting."""
        self.model.train()
        if self.rounds is not None:
            if not isinstance(window, Window):
                raise InputError(f"In {self.sync.mode!r} `step` takes what `windows()` gave.")
            return self.rounds.step(window)
        result = self.engine.train_step(window)
        ranks.broadcast(self.moving_buffers())
        if result.by_rank:
            parts = result.by_rank
            self.shares.report(
                [part.work_ms for part in parts], [part.tokens for part in parts], self.feed.samples
            )
        self.state.step += 1
        self.state.step_in_epoch += 1
        if self.epoch_ended and self.sampler is not None:
            self.state.epoch, self.state.step_in_epoch = self.state.epoch + 1, 0
        return result

    def settle(self) -> None:
        """All ranks have the same weights after this; an average that is on its way is waited for."""
        if self.rounds is not None:
            self.rounds.settle()
            ranks.broadcast(b for b in self.moving_buffers() if not b.is_floating_point())

    def checkpoint(self, folder: Path) -> Path:
        """Write the run's state under `folder`; rank 0 writes, all wait; see `Saver.save`.

        With `checkpoint_async` the folder is there after `saver.finish()`, or once the next one is written.

        Raises:
            CheckpointError: the disk refuses; earlier checkpoints are as they were.
        """
        return self.saver.save(folder)

    def sync_state(self) -> dict[str, Any]:
        """How the ranks share the work, for a resumed run."""
        rounds = {} if self.rounds is None else self.rounds.state()
        return {"mode": self.sync.mode, "ranks": self.step_ranks, "shares": self.shares.state(), **rounds}

    def resume(self, folder: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            CheckpointError: it is damaged, of another model, or was trained on other data, from another
                source or with settings that decide the weights and differ now.
        """
        saved = read_state(folder)
        self._keep_steps(saved)
        before: dict[str, str] = {}
        ranks.on_first(lambda: before.update(depends.check_files(folder, expected=saved.sealed)))
        now = {**asdict(self.config), "num_samples": self.state.num_samples}
        then = {**asdict(TrainConfig()), **saved.config, "num_samples": saved.state.num_samples}
        differ = [key for key in now if key not in _MAY_DIFFER and then.get(key) != now[key]]
        if differ:
            listed = ", ".join(f"{key} was {then.get(key)}, is {now[key]}" for key in differ)
            raise CheckpointError(f"{folder} cannot be resumed with other settings: {listed}.")
        ranks.on_first(lambda: self._check_depends(before, folder))
        if saved.state.step > self.total_steps:
            raise CheckpointError(
                f"{folder} is of step {saved.state.step}, and this run ends at step {self.total_steps}: give "
                "more `epochs` or `max_steps`, or resume from an earlier checkpoint."
            )
        checkpoints.read(self.model, folder)
        restore(
            saved,
            self.optimizer,
            self.schedule,
            self.scaler,
            own_moments=self.rounds is not None,
            spread=sharded.read(folder, self.optimizer) if saved.spread else {},
        )
        if not generators.restore(saved.tensors, folder=folder):  # a rank that the run did not have before
            generators.seed_all(self.config.seed + 1_000_003 * saved.state.step)
        self.state = saved.state
        self._restore_sync(saved)
        if then["metric"] != now["metric"]:
            judge_again(self.state, self.config.metric)
        if any(then[key] != now[key] for key in ("metric", "patience")):
            self.state.stopped_early = is_over(self.state, self.config.patience)
        lengths = ("epochs", "max_steps")
        if any(then.get(key) != now[key] for key in lengths):
            self._continue_schedule()
            self.state.stopped_early = False

    def _keep_steps(self, saved: SavedState) -> None:
        """With another number of ranks a step stays what it was: the samples of as many ranks as then."""
        before = int(saved.state.sync.setdefault("ranks", saved.num_ranks))
        mode = saved.state.sync.setdefault("mode", "step")
        if mode != self.sync.mode and max(saved.num_ranks, ranks.count()) > 1:
            raise CheckpointError(
                f"{saved.folder} was written by a run with sync={mode}, this one has {self.sync.mode}."
            )
        if before != ranks.count() and self.sampler is not None:
            self.sampler = self.feed.sampler = replace(self.sampler, step_ranks=before)
            self.total_steps = self._count_steps()
            self.schedule = self._make_schedule(self.optimizer, self.total_steps)
            if self.rounds is None:
                self.engine.schedule = self.schedule

    def _restore_sync(self, saved: SavedState) -> None:
        try:
            if "shares" in saved.state.sync:
                self.shares.restore(saved.state.sync["shares"])
            if self.rounds is None or "cadence" not in saved.state.sync:
                return
            for index, velocity in enumerate(self.rounds.averager.velocity):
                velocity.copy_(saved.tensors[f"outer.{index}"])
            self.rounds.restore(saved.state.sync)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{saved.folder}: how the ranks shared the work is damaged: {error}."
            ) from error

    def _continue_schedule(self) -> None:
        """The rates that a run of the new length has at this step, where the schedule is ours."""
        if not isinstance(self.schedule, LambdaLR):
            return
        step = self.schedule.last_epoch
        for group, base, factor in zip(
            self.optimizer.param_groups, self.schedule.base_lrs, self.schedule.lr_lambdas, strict=True
        ):
            group["lr"] = base * factor(step)

    def _check_depends(self, before: dict[str, str], folder: Path) -> None:
        source = depends.source_of(self.model)
        place = None if source is None else source.folder
        depends.check_depends(before, self.depends() if before else {}, folder, source=place)

    def depends(self) -> dict[str, str]:
        """Digests of all that the run is made from, taken once."""
        if self._digests is None:
            data = {depends.TRAINING: self.dataset, depends.EVALUATION: self.eval_dataset}
            found = {name: depends.data_digest(value) for name, value in data.items()}
            known = {name: digest for name, digest in found.items() if digest is not None}
            self._digests = {**depends.source_digests(self.model), **known}
        return self._digests

    def _make_shares(self) -> Shares:
        try:
            # sharded: ranks wait for each other in every layer; batch norm: the numbers depend on the cut
            by_batch = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in self.model.modules())
            fixed = self.config.deterministic or self.sharded or by_batch
            given = replace(self.sync, shares="equal") if fixed else self.sync
            return Shares(ranks.count(), given)
        except ValueError as error:
            raise ConfigError(f"{error}.") from error

    def _make_sampler(self, dataset: Any) -> Sampler | None:
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            return None
        if len(dataset) == 0:
            raise InputError("The data set is empty.")
        self.state.num_samples = len(dataset)
        return Sampler(
            num_samples=len(dataset),
            batch_size=self.config.batch_size,
            accumulate=self.config.accumulate,
            num_ranks=ranks.count(),
            seed=self.config.seed,
            lengths=getattr(dataset, "lengths", None),
            max_tokens=self.config.max_tokens,
        )

    def _count_steps(self) -> int:
        if self.config.max_steps is not None:
            return self.config.max_steps
        if self.sampler is None:
            raise ConfigError("A data set without a length needs max_steps.")
        return sum(len(self.sampler.whole_steps(epoch)) for epoch in range(self.config.epochs))

    def _make_optimizer(self, given: Optimizer | Callable[[nn.Module], Optimizer] | None) -> Optimizer:
        if given is None:
            return make_optimizer(self.model, self.config)
        return given if isinstance(given, Optimizer) else given(self.model)

    def _prepare_model(self) -> Any:
        model: Any = self.model
        if self.config.gradient_checkpointing:
            if hasattr(model, "gradient_checkpointing_enable"):  # Hugging Face's
                model.gradient_checkpointing_enable()
            elif hasattr(model, "gradient_checkpointing"):
                model.gradient_checkpointing = True
            else:
                raise ConfigError("This model has no gradient checkpointing.")
        return torch.compile(model) if self.config.compile else model

    def make_batches(self, samples: Sequence[Sequence[int]]) -> list[Any]:
        """Batches of samples by their numbers, on the model's device."""
        return [to_device(batch, self.device) for batch in self.feed.collated(samples)]

    def moving_buffers(self) -> list[Tensor]:
        """Buffers that are saved, such as a norm's running mean: rank 0's are everybody's."""
        if ranks.count() == 1:
            return []
        kept = self.model.state_dict(keep_vars=True)
        return [b for name, b in self.model.named_buffers() if name in kept]
