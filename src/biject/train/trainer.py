"""`Trainer`: three ways to the same step.

Managed: `Trainer(model).fit(dataset)`. Decomposed: `session = Trainer(model).setup(dataset)`, and the
caller loops over `session.windows()` and calls `session.step(window)`. By hand: `Engine` from
`biject.train.loop` with an optimizer of one's own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from biject.config.recipe import TrainConfig
from biject.config.sync import SyncConfig, SyncMode
from biject.data.dataset import Dataset
from biject.data.labelled import named_labels, with_labels_of
from biject.errors import ConfigError, InputError
from biject.events import progress
from biject.progress import shown_progress
from biject.tasks.metrics import Metrics
from biject.train import checkpoints, ranks
from biject.train.batches import Collate
from biject.train.best import BestState
from biject.train.callbacks import Callbacks, RunStart
from biject.train.evaluate import Evaluator, is_over, judge
from biject.train.heads import head_of
from biject.train.loop import Step, StepResult, Weigh
from biject.train.lost import noticed
from biject.train.objective import make_objective
from biject.train.predict import Predictions
from biject.train.result import FitResult, state_in_words
from biject.train.session import AUTOCAST, Session
from biject.train.stopping import StopRequest
from biject.train.weights import head_step, num_items


class Trainer:
    """Trains any `nn.Module`.

    Args:
        model: what to train; our models and Hugging Face's bring their own loss.
        optimizer: an optimizer, a function from the model to one, or a name (`adamw`, `sgd`, `adafactor` …,
            those of HF's `optim`, too); torch's fused AdamW by default.
        schedule: a function from (optimizer, total steps) to a schedule, or a name (`linear`, `cosine`,
            `constant`); by default the config's.
        step: `step(model, batch)` gives the mean loss, or a sum and its weight; the head's own by default.
        collate: makes a batch of samples; torch's `default_collate` by default.
        weigh: items that a mean loss is the mean of; labelled items or rows by default.
        metrics: makes an accumulator with `update(outputs, batch)` and `result()` for evaluations.
        config: how to train; single settings may be given by name instead (`lr=3e-5`).
        on_step: called after every optimizer step with its number and result.
        on_evaluation: called after every evaluation with its step and what was found.
        callbacks: objects with any of `on_start`, `on_step`, `on_evaluation`, `on_checkpoint`, `on_end`; see
            `biject.Callback`.
        stopping: a request to stop, where signals or other threads have one; `stop()` makes it.
        without: assets of the model's source folder that checkpoints leave out.
        sync: how processes under torchrun share the work: `step`, `cadence`, `async`, or all of its settings.
        progress: show it on stderr: a line that moves on a terminal, else a line every half minute.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        optimizer: Optimizer | Callable[[nn.Module], Optimizer] | str | None = None,
        schedule: Callable[[Optimizer, int], LRScheduler] | str | None = None,
        step: Step | None = None,
        collate: Collate | None = None,
        weigh: Weigh | None = None,
        metrics: Callable[[], Metrics] | None = None,
        config: TrainConfig | None = None,
        on_step: Callable[[int, StepResult], None] | None = None,
        on_evaluation: Callable[[int, dict[str, float]], None] | None = None,
        callbacks: Sequence[Any] = (),
        stopping: StopRequest | None = None,
        without: Collection[str] = (),
        sync: SyncMode | SyncConfig = "step",
        progress: bool = True,
        **settings: Any,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise ConfigError(f"Trainer needs a torch.nn.Module, found {type(model).__name__}.")
        self.model = model
        self.optimizer = None if isinstance(optimizer, str) else optimizer
        if isinstance(optimizer, str):
            settings["optimizer"] = optimizer
        self.schedule = None if isinstance(schedule, str) else schedule
        if isinstance(schedule, str):
            settings["schedule"] = schedule
        self._own_step, self._own_weigh = step, weigh
        self.collate = collate or torch.utils.data.default_collate
        self.metrics = metrics
        self.on_step = on_step
        self.on_evaluation = on_evaluation
        self.callbacks = Callbacks(callbacks)
        self.stopping = stopping or StopRequest()
        self.without = without
        self.sync = SyncConfig(mode=sync) if isinstance(sync, str) else sync
        self.progress = progress
        self.config = TrainConfig.of(settings) if config is None else _override(config, settings)
        self._set_loss(None)

    def _set_loss(self, dataset: Any) -> None:
        """The step and what its loss is the mean of: the user's, the config's, or the head's own."""
        config, head = self.config, head_of(self.model)
        changed = config.class_weights is not None or config.label_smoothing > 0
        if changed and self._own_step is not None:
            raise ConfigError("class_weights and label_smoothing have no meaning beside a step of one's own.")
        objective = None
        if changed and (dataset is not None or config.class_weights != "balanced"):
            objective = make_objective(self.model, config, dataset)
        self._loss_is_known = not changed or objective is not None
        self.step = self._own_step or (objective.step if objective is not None else head_step)
        usual = objective.weigh if objective is not None else partial(num_items, head=head)
        self.weigh = self._own_weigh or usual

    @classmethod
    def for_head(cls, model: nn.Module, **options: Any) -> Self:
        """A trainer by the model's own head: its loss, and its weight."""
        if not hasattr(model, "config") or getattr(model, "head", model) is None:
            raise ConfigError("for_head needs a model with a head that computes a loss; give step= instead.")
        return cls(model, **options)

    def setup(
        self,
        dataset: Sequence[Any] | Iterable[Any],
        *,
        batch_size: int | None = None,
        epochs: int | None = None,
        max_steps: int | None = None,
    ) -> Session:
        """Everything ready for the first step, the loop left to the caller."""
        self._set_loss(dataset)
        given = {"batch_size": batch_size, "epochs": epochs, "max_steps": max_steps}
        config = _override(self.config, {key: value for key, value in given.items() if value is not None})
        return Session(
            self.model,
            dataset=dataset,
            config=config,
            step=self.step,
            weigh=self.weigh,
            collate=self.collate,
            optimizer=self.optimizer,
            schedule=self.schedule,
            without=self.without,
            sync=self.sync,
        )

    def stop(self, reason: str = "stop()") -> None:
        """End the run after this step, with a checkpoint where it has a folder; it can be resumed."""
        self.stopping.request(reason)

    def fit(
        self,
        dataset: Sequence[Any] | Iterable[Any],
        *,
        batch_size: int | None = None,
        epochs: int | None = None,
        max_steps: int | None = None,
        eval_dataset: Sequence[Any] | None = None,
        out: str | Path | None = None,
        resume: bool | str | Path = False,
    ) -> FitResult:
        """Train to the end.

        Args:
            dataset: samples (with a length, shuffled by seed and epoch), or an iterable of batches.
            batch_size: samples a device computes at once.
            epochs: passes over the data.
            max_steps: optimizer steps, instead of `epochs`.
            eval_dataset: samples to evaluate on, every `evaluate_every` steps or each epoch.
            out: the run's folder, for checkpoints.
            resume: True continues from the latest checkpoint in `out`, if any; or a checkpoint's folder.

        Raises:
            BijectError: what cannot be trained with, and why; a checkpoint on disk stays good.
        """
        names = named_labels(self.model)
        if names:
            dataset = with_labels_of(dataset, names, whose="the model's")
        elif isinstance(dataset, Dataset):
            names = dataset.labels
        if names:
            eval_dataset = with_labels_of(eval_dataset, names, whose="the training data's or the model's")
        session = self.setup(dataset, batch_size=batch_size, epochs=epochs, max_steps=max_steps)
        return self.run(session, eval_dataset=eval_dataset, out=out, resume=resume)

    def evaluate(self, dataset: Sequence[Any], *, batch_size: int | None = None) -> dict[str, float]:
        """The trainer's loss and metrics over a data set, as evaluations during training compute them.

        Args:
            dataset: samples; labels of a `Dataset` are matched by name with the model's.
            batch_size: samples a device computes at once; the config's where left out.

        Raises:
            BijectError: what cannot be evaluated, and why.
        """
        config = self.config if batch_size is None else replace(self.config, batch_size=batch_size)
        names = named_labels(self.model)
        if names:
            dataset = with_labels_of(dataset, names, whose="the model's")
        _check(replace(config, checkpoint_every=0), None, dataset)
        return self._evaluator(config).evaluate(dataset)

    def predict(self, dataset: Sequence[Any], *, batch_size: int | None = None) -> Predictions:
        """What the model gives for every sample, in their order; with labels loss and metrics, too.

        Args:
            dataset: samples, with or without labels.
            batch_size: samples a device computes at once; the config's where left out.

        Raises:
            BijectError: what cannot be computed, and why.
        """
        config = self.config if batch_size is None else replace(self.config, batch_size=batch_size)
        names = named_labels(self.model)
        if names and isinstance(dataset, Dataset) and dataset.labels:
            dataset = with_labels_of(dataset, names, whose="the model's")
        _check(replace(config, checkpoint_every=0, patience=0), None, dataset)
        with shown_progress(self.progress and ranks.rank() == 0):
            return self._evaluator(config).predict(dataset)

    def run(
        self,
        session: Session,
        *,
        eval_dataset: Sequence[Any] | None = None,
        out: str | Path | None = None,
        resume: bool | str | Path = False,
    ) -> FitResult:
        """Train to the end from what `setup` gave; arguments as in `fit`."""
        folder = Path(out) / "checkpoints" if out is not None else None
        _check(session.config, folder, eval_dataset)
        session.saver.check(folder)
        session.eval_dataset = eval_dataset
        start = _resume_from(resume, folder)
        if start is not None:
            session.resume(start)
        elif folder is not None:
            ranks.on_first(lambda: checkpoints.check_none_later(folder, session.state.step))
        places = [path for path in (folder, start and start.parent) if path]
        best = BestState(self.model, places, session.optimizer)
        result = FitResult()
        try:
            shown = shown_progress(self.progress and ranks.rank() == 0)
            with noticed(), shown, self.stopping.heeded():
                self._started(session)
                with session.saver.finished():
                    self._run(session, eval_dataset, folder, result, best)
                self._tell_written(session)
            state = session.state
            result.steps, result.history = state.step, state.history
            result.best_value, result.best_step = state.best_value, state.best_step
            result.stopped_early = state.stopped_early
            self._take_best(session.config, result, best)
        finally:
            session.engine.close()
            self.model.eval()
        self.callbacks.call("on_end", result)
        return result

    def _started(self, session: Session) -> None:
        step, total = session.state.step, session.total_steps
        self.callbacks.call("on_start", RunStart.of(self.model, session.config, step=step, total_steps=total))

    def _run(
        self,
        session: Session,
        eval_dataset: Sequence[Any] | None,
        folder: Path | None,
        result: FitResult,
        best: BestState,
    ) -> None:
        state, config = session.state, session.config
        session.engine.wish = lambda: float(self.stopping.reason is not None)
        session.saver.on_problem = lambda: self.stopping.request("a checkpoint that could not be written")
        started, tokens = time.monotonic(), 0.0
        for window in session.windows():
            before = state.step
            done = session.step(window)
            result.losses.append(done.loss)
            tokens += done.tokens
            rate = tokens / max(1e-9, time.monotonic() - started)
            best_so_far = _best_in_words(config.metric, state.best_value)
            detail = f"loss {done.loss:.4f}, {best_so_far}{rate:,.0f} {_unit(self.model)}/s"
            progress("training", state.step, session.total_steps, unit="steps", detail=detail)
            if self.on_step is not None:
                self.on_step(state.step, done)
            self.callbacks.call("on_step", state.step, done)
            is_last = state.step >= session.total_steps
            every = config.evaluate_every
            due = _passed(every, before, state.step) if every else session.epoch_ended
            improved = False
            if is_last or due:
                session.settle()
            if eval_dataset is not None and (due or is_last):
                improved = self._evaluate(session, eval_dataset)
            regular = _passed(config.checkpoint_every, before, state.step)
            stop = (
                self.stopping.agreed(session.engine.wishes)
                and state.step < session.total_steps
                and not state.stopped_early
            )
            if folder is not None and (regular or improved or stop):
                session.checkpoint(folder)
            elif improved and config.load_best:
                best.keep()
            self._tell_written(session)
            result.interrupted = stop
            if state.stopped_early or stop:
                return

    def _tell_written(self, session: Session) -> None:
        for step, path in session.saver.written():
            self.callbacks.call("on_checkpoint", step, path)

    def _evaluate(self, session: Session, eval_dataset: Sequence[Any]) -> bool:
        """Evaluate, record it, and return whether it is the best so far."""
        state, config = session.state, session.config
        found = self._evaluator(config).evaluate(eval_dataset)
        state.history.append({"step": float(state.step), **found})
        if self.on_evaluation is not None:
            self.on_evaluation(state.step, found)
        self.callbacks.call("on_evaluation", state.step, found)
        improved = judge(state, found, metric=config.metric, step=state.step)
        state.stopped_early = is_over(state, config.patience)
        return improved

    def _evaluator(self, config: TrainConfig) -> Evaluator:
        if not self._loss_is_known:
            make_objective(self.model, self.config, None)  # raises: the weights are counted in `fit`
        return Evaluator(
            model=self.model,
            step=self.step,
            weigh=self.weigh,
            collate=self.collate,
            batch_size=config.batch_size,
            autocast_dtype=AUTOCAST[config.precision],
            metrics=self.metrics,
        )

    def _take_best(self, config: TrainConfig, result: FitResult, best: BestState) -> None:
        """Put the best state's weights into the model, and name the state that it is in."""
        result.model_step, step = result.steps, result.best_step
        if step is not None and (step == result.steps or (config.load_best and best.load(step))):
            result.model_step = step
        result.model_state = state_in_words(result, config.metric, load_best=config.load_best)


def _unit(model: nn.Module) -> str:
    """What a step's size is counted in."""
    return "pictures" if getattr(model, "main_input_name", "") == "pixel_values" else "tokens"


def _best_in_words(metric: str, value: float | None) -> str:
    return "" if value is None else f"best {metric.lstrip('-')} {value:.4f}, "


def _check(config: TrainConfig, folder: Path | None, eval_dataset: Sequence[Any] | None) -> None:
    if config.checkpoint_every and folder is None:
        raise ConfigError("checkpoint_every needs a folder: fit(out=…).")
    if config.patience and eval_dataset is None:
        raise ConfigError("patience needs samples to evaluate on: fit(eval_dataset=…).")
    if eval_dataset is not None and not len(eval_dataset):
        raise InputError("The data set to evaluate on is empty.")


def _passed(every: int, before: int, step: int) -> bool:
    """Whether a multiple of `every` is behind `before`, up to `step`; 0 has none."""
    return every > 0 and step // every > before // every


def _override(config: TrainConfig, settings: dict[str, Any]) -> TrainConfig:
    TrainConfig.of(settings)  # names and values are checked in one place
    return replace(config, **settings)


def _resume_from(resume: bool | str | Path, folder: Path | None) -> Path | None:
    if resume is True:
        if folder is None:
            raise ConfigError("resume=True needs the run's folder: fit(out=…).")
        return checkpoints.latest(folder)
    if not resume:
        return None
    path = Path(resume)
    if not path.is_dir():
        raise InputError(f"{path}: no such checkpoint folder to resume from.")
    return path


__all__ = ["FitResult", "Trainer", "ranks"]
