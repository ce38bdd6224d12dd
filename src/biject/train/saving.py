"""`Saver`: checkpoints of a run, written before the next step, or by a thread while training goes on.

For the thread everything that changes is copied first, into the CPU's memory: weights and the optimizer's
tensors once more, until they are written. Ranks of a sharded model write together: their threads have a
process group of their own, as two threads must not mix their exchanges in one.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from biject.checkpoint.content import Content
from biject.checkpoint.run_files import MANIFEST
from biject.distributed.sharding import copied, mesh_of
from biject.errors import CheckpointError, ConfigError
from biject.events import notice, without_progress
from biject.model import Model
from biject.train import checkpoints, depends, generators, ranks, sharded
from biject.train.rounds import Rounds
from biject.train.state import TrainState, moments, pack

_More = Callable[[Mapping[str, Content]], None]
"""Writes a checkpoint with some more files."""


class Saver:
    """Writes a session's checkpoints.

    Args:
        session: the run.

    Attributes:
        later: a thread writes them.
        on_problem: called, by the thread, where it fails: the run should come to its end.
    """

    def __init__(self, session: Any) -> None:
        self.session = session
        own = isinstance(session.model, checkpoints.OwnCheckpoints)
        self.later: bool = session.config.checkpoint_async and not own
        self.on_problem: Callable[[], None] = lambda: None
        self._mesh = mesh_of(ranks.another_group()) if self.later and session.sharded else None
        self._thread: threading.Thread | None = None
        self._problem: BaseException | None = None
        self._written: list[tuple[int, Path]] = []
        if own and session.config.checkpoint_async:
            notice("checkpoints-wait", "Of this backend checkpoints are written before training goes on.")

    def check(self, folder: Path | None) -> None:
        """Refuse before the first step what no checkpoint in `folder` could hold.

        Raises:
            ConfigError: what would be lost.
        """
        if folder is not None:
            checkpoints.check(self.session.model)

    def save(self, folder: Path) -> Path:
        """Write the run's state under `folder`; rank 0 writes, all wait, or only for the copies.

        Raises:
            CheckpointError: the disk refuses, now or for the one before; others are as they were.
        """
        session = self.session
        if session.sharded and not isinstance(session.model, Model):
            raise ConfigError("Checkpoints of sharded models are written of Biject's own models alone.")
        self.finish()
        session.settle()
        step = session.state.step
        path = folder / checkpoints.folder_name(step)
        write = self._write(folder, path)
        if not self.later:
            write()
            self._written.append((step, path))
            return path

        def work() -> None:
            try:
                with without_progress():
                    write()
                self._written.append((step, path))
            except BaseException as error:  # raised by `finish`, in the thread that trains
                self._problem = error
                self.on_problem()

        context = contextvars.copy_context()  # who listens to notices
        self._thread = threading.Thread(target=lambda: context.run(work), name="biject-checkpoint")
        self._thread.start()
        return path

    def written(self) -> list[tuple[int, Path]]:
        """Checkpoints that are whole and were not told of yet: step and folder."""
        found, self._written = self._written, []
        return found

    def finish(self) -> None:
        """Wait for the checkpoint that is being written; all ranks call it at the same step.

        Raises:
            CheckpointError: it could not be written.
        """
        if not self.later:
            return
        problem = self._join()
        failed = ranks.totals(float(problem is not None))[0]
        if problem is not None:
            raise problem
        if failed:
            raise CheckpointError("rank 0 could not write; see its own message.")

    @contextmanager
    def finished(self) -> Iterator[None]:
        """What is being written at the end of the block is waited for, whatever ends the block."""
        try:
            yield
        except BaseException:
            problem = self._join()
            if problem is not None:
                notice("no-checkpoint", f"The last checkpoint was not written: {problem}")
            raise
        self.finish()

    def _join(self) -> BaseException | None:
        if self._thread is not None:
            self._thread.join()
        self._thread = None
        problem, self._problem = self._problem, None
        return problem

    def _write(self, folder: Path, path: Path) -> Callable[[], None]:
        """What writes the state of now: with `later` its copies, whenever it is called."""
        session = self.session
        drawn = generators.collect() | _own_moments(session.rounds, moments(session.optimizer))
        session.state.sync = session.sync_state()
        if session.sharded:
            spread, write = self._prepare(drawn, folder, path)
            group = None if self._mesh is None else self._mesh.get_group()

            def together() -> None:
                with ranks.within(group), sharded.written(spread, path) as more:
                    write(more)  # by all: each gives its part

            return together
        if not self.later:
            return lambda: ranks.on_first(lambda: self._prepare(drawn, folder, path)[1]({}))
        found: list[_More] = []
        ranks.on_first(lambda: found.append(self._prepare(drawn, folder, path)[1]))

        def alone() -> None:
            for write in found:
                write({})

        return alone

    def _prepare(
        self, drawn: Mapping[str, Tensor], folder: Path, path: Path
    ) -> tuple[Mapping[str, Tensor], _More]:
        """What a sharded optimizer has in tensors, and what writes all else beside some more files."""
        session, state = self.session, self.session.state
        copy = copied(self._mesh) if self.later else None
        files = self._state_files(state, drawn, copy or _same)
        extra, step = session.extra, state.step
        said = depends.manifest(step, session.depends())
        model = checkpoints.writer(session.model, without=session.without, copy=copy, mesh=self._mesh)
        own = moments(session.optimizer) if session.sharded else {}
        spread = {name: (copy or _same)(tensor) for name, tensor in own.items()}
        keep, best = session.config.keep if session.config.checkpoint_every else 1, state.best_step

        def write(more: Mapping[str, Content]) -> None:
            seal = (MANIFEST, lambda digests: depends.to_bytes(said, digests))
            model(path, {**extra, **files, **more}, seal)
            if ranks.rank() == 0:
                checkpoints.prune(folder, step=step, keep=keep, best=best)

        return spread, write

    def _state_files(
        self, state: TrainState, drawn: Mapping[str, Tensor], copy: Callable[[Tensor], Tensor]
    ) -> dict[str, Content]:
        session = self.session
        return pack(
            state,
            session.optimizer,
            session.schedule,
            session.scaler,
            asdict(session.config),
            drawn,
            copied=copy,
            with_moments=not session.sharded,
        )


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _own_moments(rounds: Rounds | None, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The optimizer's tensors of ranks that step by themselves, and of their outer step; in rank 0."""
    if rounds is None:
        return {}
    found = {f"outer.{i}": v.cpu() for i, v in enumerate(rounds.averager.velocity)}
    for rank, theirs in enumerate(ranks.collect(own)):
        found |= {f"rank-{rank}.{name}": tensor for name, tensor in theirs.items() if rank}
    return found
