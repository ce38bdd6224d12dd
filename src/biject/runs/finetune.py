"""`finetune`: a checkpoint and labelled text in; a fine-tuned, verified Hugging Face folder out."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from biject.config.recipe import FinetuneRecipe
from biject.environment import prepare as prepare_environment
from biject.errors import CheckpointError
from biject.events import notice
from biject.pages.render import render_report
from biject.runs.adapter import refuse_adapter
from biject.runs.ending import Ending, proof_lines
from biject.runs.facts import environment, facts
from biject.runs.folder import REPORT, RunFolder, absolute, check_same, fingerprints
from biject.runs.log import RunLog, tracked
from biject.runs.prepare import Prepared, prepare
from biject.runs.sharded import spread, whole
from biject.save import Saved
from biject.track.registry import check_tracker
from biject.train import checkpoints, ranks
from biject.train.session import Session
from biject.train.stopping import StopRequest
from biject.train.trainer import FitResult, Trainer
from biject.verify.report import Report

Log = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Finetuned:
    """What a run gave.

    Attributes:
        folder: The run's folder.
        fit: Steps, losses, evaluations.
        best: Which state `model/` has, in words.
        saved: Files of `model/` with their sha256; None on ranks other than the first.
        report: The proof; None where transformers is not installed.
        stopped: The signal that ended the run before its end, or None; there is no `model/` then.
    """

    folder: Path
    fit: FitResult
    best: str
    saved: Saved | None
    report: Report | None
    stopped: str | None = None

    @property
    def passed(self) -> bool:
        """No level failed."""
        return self.report is None or self.report.passed

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "folder": str(self.folder),
            "passed": self.passed,
            "stopped": self.stopped,
            "best": self.best,
            "fit": asdict(self.fit),
            "model": None if self.saved is None else self.saved.to_json(),
            "verified": [] if self.report is None else proof_lines(self.report),
        }


def finetune(
    recipe: FinetuneRecipe,
    *,
    out: str | Path,
    resume: bool = False,
    verify: bool = True,
    verbose: bool = False,
    log: Log | None = None,
    stopping: StopRequest | None = None,
    track: Sequence[str] = (),
) -> Finetuned:
    """Fine-tune a checkpoint by a recipe.

    Args:
        recipe: The whole run.
        out: Its folder, which must not exist yet, or be empty.
        resume: Go on with the run in `out` from its latest checkpoint; to the bit on CPU.
        verify: Prove the exported model at the end; False says that nothing was proven.
        verbose: Log every check of the proof in a line of its own.
        log: Takes each line about data, model and proof.
        stopping: A request to stop at a step boundary, with a checkpoint.
        track: Trackers that show the run, too: see `biject.track.NAMES`.

    Raises:
        BijectError: What cannot be used. As long as it is about input, nothing has been written.
    """
    for name in track:
        check_tracker(name)
    prepare_environment()
    ranks.start(timeout=recipe.sync.timeout)
    recipe = absolute(recipe)
    refuse_adapter(recipe)
    how = _How(verify, verbose, log or (lambda line: None), stopping, track)
    done = _run(RunFolder(Path(out)), recipe, how, resume=resume or ranks.restarted())
    ranks.wait()
    return done


class _How(NamedTuple):
    """`finetune`'s arguments beside the recipe and the folder."""

    verify: bool
    verbose: bool
    write_line: Log
    stopping: StopRequest | None
    track: Sequence[str]


def _run(run: RunFolder, recipe: FinetuneRecipe, how: _How, *, resume: bool) -> Finetuned:
    """From the data to the exported model; the folder is made once everything could be read."""
    goes_on = _check_folder(run, recipe, resume=resume)
    prepared = prepare(recipe)
    for line in prepared.lines:
        how.write_line(line)
    spread(recipe, prepared)
    seen = fingerprints(recipe)
    trainer = prepared.trainer(recipe, stopping=how.stopping)
    events = RunLog(run, prepared.model, how.write_line)
    trainer.collate = events.watch(trainer.collate)
    trainer.callbacks.add(events)
    session = trainer.setup(prepared.samples.train)
    session.extra = prepared.extra
    session.saver.check(run.checkpoints)
    (run.reopen if goes_on else run.begin)(recipe, fingerprints=seen)
    with tracked(run, how.track):
        _say_start(run, prepared, session, goes_on=goes_on)
        if goes_on:
            how.write_line(_resumed(run, session))
        fit = _train(run, trainer, session, prepared, resume=goes_on)
        if fit.interrupted:
            return _interrupted(run, trainer, session, fit, how.write_line)
        saved, report = None, None
        ending = Ending(run, recipe, whole(run, recipe, prepared), fit, how.write_line)
        speed = ending.speed(events)  # every process measures its own device
        if run.writes:
            saved, report = ending.write(
                events.seconds(), speed, verify=how.verify, verbose=how.verbose, force=goes_on
            )
    how.write_line(f"BEST {fit.model_state}")
    return Finetuned(folder=run.folder, fit=fit, best=fit.model_state, saved=saved, report=report)


def _check_folder(run: RunFolder, recipe: FinetuneRecipe, *, resume: bool) -> bool:
    """Whether there is a run to resume; only rank 0 looks, before it writes."""
    if not resume:
        ranks.on_first(run.check_free)
        return False
    stored = run.stored()
    ranks.wait()
    if stored is None:
        notice("nothing-to-resume", f"{run.folder} has no run yet: starting a new one.")
        return False
    check_same(stored, recipe, run.folder)
    ranks.on_first(run.check_unfinished)
    return True


def _say_start(run: RunFolder, prepared: Prepared, session: Session, *, goes_on: bool) -> None:
    """What a report says of data, model and machine."""
    last = checkpoints.existing(run.checkpoints) if goes_on else []
    run.event(
        "setup",
        total_steps=session.total_steps,
        from_step=last[-1][0] if last else 0,
        data_lines=[line.removeprefix("DATA ") for line in prepared.lines],
        model=facts(prepared.model),
        environment=environment(prepared.model),
    )


def _interrupted(
    run: RunFolder, trainer: Trainer, session: Session, fit: FitResult, write_line: Log
) -> Finetuned:
    """Say what was kept, and how the run goes on."""
    reason = trainer.stopping.reason or "another process"
    last = checkpoints.latest(run.checkpoints)
    run.event("interrupted", step=fit.steps, reason=reason)
    if run.writes:
        run.write(REPORT, render_report(run.folder))
    write_line(f"INTERRUPTED by {reason} after step {fit.steps} of {session.total_steps}: {last} has it all")
    write_line(f"GO ON with: {_command()} finetune --resume --out {shlex.quote(str(run.folder))}")
    return Finetuned(
        folder=run.folder, fit=fit, best=fit.model_state, saved=None, report=None, stopped=reason
    )


def _command() -> str:
    """What a user types before `finetune`; how many machines there were is theirs to know."""
    return "biject" if ranks.count() == 1 else f"torchrun --nproc-per-node {ranks.count()} -m biject"


def _train(
    run: RunFolder, trainer: Trainer, session: Session, prepared: Prepared, *, resume: bool
) -> FitResult:
    try:
        return trainer.run(session, eval_dataset=prepared.samples.evaluation, out=run.folder, resume=resume)
    except CheckpointError as error:
        last = checkpoints.latest(run.checkpoints)
        if last is None or "--resume" in str(error) or session.state.step == 0:
            raise
        raise CheckpointError(f"{error} {last} is intact: resume from there with --resume.") from error


def _resumed(run: RunFolder, session: Session) -> str:
    """From which step the run goes on, and how far."""
    last = checkpoints.existing(run.checkpoints)
    total = session.total_steps
    if not last:
        return f"RESUME from step 0 of {total}: there is no checkpoint yet"
    return f"RESUME from step {last[-1][0]} of {total}: {last[-1][1]}"
