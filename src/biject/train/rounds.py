"""`Rounds`: ranks that step by themselves and average their weights now and then (`cadence`, `async`).

A round is what the ranks do between two meetings. Everybody computes the same hand-out from the same
numbers. In `async` nobody waits for an average: each goes on with the next round, at most `overshoot` steps,
and what it did meanwhile is kept on top of the average.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from biject.config.sync import SyncConfig
from biject.distributed.averaging import Averager, Pending
from biject.distributed.cadence import MOST, Cadence
from biject.distributed.handout import Pool
from biject.distributed.speeds import apportion
from biject.errors import ConfigError
from biject.events import notice
from biject.train import ranks
from biject.train.batches import Sampler
from biject.train.loop import Engine, Meeting, StepResult
from biject.train.meter import by_rank, rows
from biject.train.optim import first_moment
from biject.train.state import TrainState


class Run(Protocol):
    """What rounds need of a session.

    Attributes:
        step_ranks: ranks whose windows make up a step.
    """

    sync: SyncConfig
    sampler: Sampler | None
    engine: Engine
    optimizer: Optimizer
    schedule: LRScheduler
    state: TrainState
    total_steps: int
    epoch_ended: bool

    @property
    def step_ranks(self) -> int: ...

    def make_batches(self, samples: Sequence[Sequence[int]]) -> list[Any]: ...

    def moving_buffers(self) -> list[Tensor]: ...


class Window(Sequence[list[Any]]):
    """A rank's steps of one round; batches are made when they are needed.

    Attributes:
        numbers: of its windows in the epoch.
        given: how many every rank got.
        by_count: all of them are done, whatever the time.
    """

    def __init__(
        self, numbers: Sequence[int], make: Callable[[int], list[Any]], *, given: Any, by_count: bool
    ) -> None:
        self.numbers, self._make, self.given, self.by_count = numbers, make, given, by_count

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: Any) -> Any:
        return self._make(self.numbers[index])


MEETINGS = 50
"""A run has so many meetings at least, unless `anchor` has it otherwise: of 7 in 500 steps a tiny BERT's loss
ended 2.4 % above one process's in the mean of three seeds.
"""


def _limited(config: SyncConfig, steps: int) -> SyncConfig:
    """With a largest anchor that suits a run of so many steps, where none is given."""
    if config.max_anchor is not None:
        return config
    return replace(config, max_anchor=max(config.anchor, min(MOST, steps // MEETINGS)))


class Rounds:
    """Hands out rounds, steps through them, and meets.

    Args:
        session: the run.

    Attributes:
        cadence: anchor and counts.
        pool: the epoch's steps that nobody has done yet.
        averager: what is averaged, and how.
    """

    def __init__(self, session: Run) -> None:
        config = session.sync
        if session.sampler is None:
            raise ConfigError(f"sync={config.mode!r} needs a data set with a length and items.")
        if config.mode == "async" and config.average_moments:
            raise ConfigError("`sync.average_moments` needs `cadence`: in `async` moments move on meanwhile.")
        self.session, self.config, self.sampler = session, config, session.sampler
        self.asynchronous = config.mode == "async"
        try:
            self.cadence = Cadence(ranks.count(), _limited(config, session.total_steps))
        except ValueError as error:
            raise ConfigError(f"{error}.") from error
        self.engine: Engine = session.engine
        self.engine.alone = True
        self.engine.schedule = None  # steps of the run are counted at meetings: see `_advance`
        self.pool: Pool | None = None
        self.averager = Averager(
            [p for group in session.optimizer.param_groups for p in group["params"] if p.requires_grad],
            self._others,
            config,
            first_moment(session.optimizer),
        )
        self._pending: Pending | None = None
        self._ahead = 0
        self._last: StepResult | None = None
        self._round: tuple[Window, float, float | None] | None = None
        self._done: list[int] = []
        self._late = [0.0, 0.0]
        """Divergence and milliseconds of the last average, told to the others with the next one (`async`)."""

    def _others(self) -> list[Tensor]:
        found = [b for b in self.session.moving_buffers() if b.is_floating_point()]
        if self.config.average_moments and self.cadence.speeds.known:
            state = self.session.optimizer.state
            found += [
                value
                for p in self.averager.parameters
                for _, value in sorted(state[p].items())
                if isinstance(value, Tensor) and value.shape == p.shape
            ]
        return found

    def windows(self, epoch: int) -> Iterator[Window]:
        """This rank's part of every remaining round of an epoch."""
        session = self.session
        whole = self.sampler.windows(epoch)
        if self.pool is None or self.pool.count != len(whole) or not len(self.pool):
            self.pool = Pool(len(whole))

        def make(number: int) -> list[Any]:
            return session.make_batches(whole[number])

        while len(self.pool):
            counts = self.cadence.counts if self.asynchronous else self.cadence.allowance()
            steps = session.total_steps - (session.state.step - session.state.step_in_epoch)
            done = self.pool.count - len(self.pool)
            most = min(steps * session.step_ranks - done, len(self.pool))
            by_count = self.asynchronous or sum(self.cadence.counts) >= most
            if sum(counts) > most:
                counts = apportion(most, self.cadence.counts)
            given = self.pool.take(counts)
            yield Window(given.of(ranks.rank()), make, given=given, by_count=by_count)

    def step(self, window: Window) -> StepResult:
        """Do this rank's part of a round, and meet."""
        lost, items, tokens, norm, done = 0.0, 0.0, 0.0, None, 0
        state, meter, work = self.session.state, self.engine.meter, 0.0
        rate = self._set_rate(state.step)  # of a round of which this rank has no part
        planned = sum(window.given.counts) / self.session.step_ranks
        for number in range(len(window)):
            if self._pending is not None and (self._pending.done() or self._ahead >= self.config.overshoot):
                self._finish()
            started = meter.now()
            self._set_rate(state.step + planned * number / len(window))
            found = self.engine.train_step(window[number])
            work += 1000 * (meter.now() - started)
            lost, items, tokens = lost + found.loss * found.items, items + found.items, tokens + found.tokens
            norm, rate, done = found.grad_norm, found.lr, number + 1
            self._ahead += self._pending is not None
            if not window.by_count and self.cadence.enough(rank=ranks.rank(), done=done, wall_ms=work):
                break
        self.settle()
        numbers = [*rows(float(done), work), *rows(tokens, work), lost, items, tokens, *self._told()]
        started = time.perf_counter()
        waits = not self.asynchronous or not self.cadence.speeds.known
        self._pending = self.averager.launch(
            tokens or items, [*numbers, self.engine.wish()], steps=done, keep=not waits
        )
        self._ahead = 0
        self._round = window, rate, norm
        if waits or self._last is None:
            self._finish(started)
            self._give_back(window)
        self._advance(window)
        assert self._last is not None
        return self._last

    def settle(self) -> None:
        """Wait for an average that is on its way: all ranks have the same weights then, if none went on."""
        if self._pending is not None:
            self._finish()

    def _told(self) -> list[float]:
        """The last average's divergence and time in this rank's place, so that all learn the largest."""
        return rows(*self._late)

    def _finish(self, started: float | None = None) -> None:
        """Take an average and decide what comes next."""
        pending, count = self._pending, ranks.count()
        assert pending is not None
        self._pending = None
        begun = time.perf_counter() if started is None else started
        numbers, divergence = self.averager.collect(pending)
        spent = 1000 * (time.perf_counter() - begun)
        done, parts, rest = numbers[: 2 * count], numbers[2 * count : 4 * count], numbers[4 * count :]
        lost, items, tokens, *told, self.engine.wishes = rest
        found = by_rank(parts)
        if started is None:  # nobody waited: what this rank found is told with the next one
            self._late = [divergence, spent]
            divergence, sync_ms = max(told[::2]), max(told[1::2])
        else:
            own = max(0.0, spent - found[ranks.rank()].wait_ms)
            divergence, sync_ms = self._late = ranks.largest(divergence, own)
        self._done = [int(value) for value in done[::2]]
        decision = self.cadence.report(done[1::2], self._done, sync_ms, divergence)
        if decision.guarded:
            notice(
                "sync-guard",
                f"Ranks run apart, three times in a row farther (now {divergence:.3f} of the weights' norm): "
                f"they meet after {decision.anchor} steps from now on.",
            )
        assert self._round is not None
        _, rate, norm = self._round
        self._last = StepResult(
            loss=lost / items if items else 0.0,
            items=items,
            lr=rate,
            grad_norm=norm,
            tokens=tokens,
            by_rank=found,
            sync_ms=round(sync_ms, 3),
            meeting=Meeting(
                anchor=decision.anchor,
                counts=decision.counts,
                done=tuple(self._done),
                divergence=divergence,
                guarded=decision.guarded,
                stretch=round(self.averager.stretch, 4),
            ),
        )

    def _give_back(self, window: Window) -> None:
        """What any rank did not get to comes first in the next round."""
        assert self.pool is not None
        undone: list[int] = []
        for rank, done in enumerate(self._done):
            if done < window.given.counts[rank]:
                undone += window.given.of(rank)[done:]
        self.pool.give_back(undone)

    def _advance(self, window: Window) -> None:
        """Count the run's steps: W windows are one."""
        assert self.pool is not None
        session, state = self.session, self.session.state
        before = state.step
        done = self.pool.count - len(self.pool)
        in_epoch = done // session.step_ranks if len(self.pool) else -(-done // session.step_ranks)
        state.step, state.step_in_epoch = before - state.step_in_epoch + in_epoch, in_epoch
        schedule = session.schedule
        for _ in range(int(state.step - before)):
            schedule.step()
        if not len(self.pool):
            session.epoch_ended = True
            state.epoch, state.step_in_epoch = state.epoch + 1, 0
        else:
            session.epoch_ended = False

    def _set_rate(self, step: float) -> float:
        """Set the learning rate at a step, whole or not, where the schedule is ours; give the first's."""
        schedule, groups = self.session.schedule, self.session.optimizer.param_groups
        if isinstance(schedule, LambdaLR):
            factor: Any
            for group, base, factor in zip(groups, schedule.base_lrs, schedule.lr_lambdas, strict=True):
                group["lr"] = base * factor(step)
        return float(groups[0]["lr"])

    def state(self) -> dict[str, Any]:
        """What a resumed run goes on with, as plain data."""
        pool = self.pool.state() if self.pool is not None and len(self.pool) else None
        return {"cadence": self.cadence.state(), "pool": pool}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state()`."""
        self.cadence.restore(state["cadence"])
        self.pool = Pool.of(state["pool"]) if state["pool"] is not None else None
        self.averager.anchor_here()
