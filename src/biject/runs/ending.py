"""The end of a run: the model is exported and proved, the report written, and said what came out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from biject.config.recipe import FinetuneRecipe
from biject.errors import MissingExtraError
from biject.events import notice
from biject.pages.render import render_report
from biject.pages.words import compact, duration
from biject.runs import insights
from biject.runs.card import CARD, card
from biject.runs.facts import peak_memory
from biject.runs.folder import INSIGHTS, REPORT, VERIFY, RunFolder
from biject.runs.log import RunLog, trimmed
from biject.runs.prepare import Prepared
from biject.runs.result import write_result
from biject.save import Saved
from biject.train.session import AUTOCAST
from biject.train.trainer import FitResult
from biject.verify.report import Report

NOT_VERIFIED = "NOT CHECKED the exported model: nothing was proven of it (see `biject verify-export`)"


@dataclass(frozen=True)
class Ending:
    """What the last part of a run needs; only rank 0 has it to do."""

    run: RunFolder
    recipe: FinetuneRecipe
    prepared: Prepared
    fit: FitResult
    write_line: Callable[[str], None]

    def speed(self, events: RunLog) -> dict[str, Any]:
        """Tokens a second and MFU; called by every process, as each has a device of its own."""
        rate = events.tokens_per_second()
        return {
            "tokens_per_second": None if rate is None else round(rate, 1),
            **events.flops.to_json(tokens_per_second=rate, dtype=self._dtype()),
        }

    def write(
        self, seconds: float, speed: dict[str, Any], *, verify: bool, verbose: bool, force: bool
    ) -> tuple[Saved, Report | None]:
        """Model, proof, insights, report; returns what was saved, and the proof.

        Args:
            seconds: That training took.
            speed: What `speed` found.
            verify: Prove the model.
            verbose: Log every check.
            force: Replace what an interrupted end left.
        """
        run, write_line = self.run, self.write_line
        if self.fit.stopped_early:
            patience = self.recipe.train.patience
            write_line(
                f"STOPPED EARLY after step {self.fit.steps}: {patience} evaluations without a better one"
            )
        written: list[str] = []
        verdicts: list[str] = []
        proven = partial(self._prove, verdicts, verify=verify, verbose=verbose)
        saved, report = write_result(
            run, self.recipe, self._described(), written.append, proven, force=force,
            adapter_card=self._card(adapter=True),
        )  # fmt: skip
        if report is not None:
            run.write(VERIFY, report.to_json() + "\n")
        self._look()
        self._write_end(saved, report, seconds=seconds, **speed)
        run.write(REPORT, render_report(run.folder))
        rate = speed.get("tokens_per_second")
        unit = "pictures" if self.recipe.task == "imgcls" else "tokens"
        fast = f", {compact(rate)} {unit}/s" if rate else ""
        for line in (
            f"DONE {self.fit.steps:,} steps in {duration(seconds)}{fast}",
            *written,
            *verdicts,
            f"REPORT {run.folder / REPORT}",
        ):
            write_line(line)
        if not self.recipe.train.checkpoint_every:  # that of the best state, which model/ has
            run.drop_checkpoints()
        return saved, report

    def _described(self) -> Prepared:
        """With a model card among the files to write."""
        return replace(self.prepared, extra={**self.prepared.extra, CARD: self._card(adapter=False)})

    def _card(self, *, adapter: bool) -> bytes:
        name = self.run.folder.resolve().name
        return card(self.recipe, self.prepared, self.fit, name=name, adapter=adapter)

    def _dtype(self) -> torch.dtype:
        """What products are computed in."""
        return AUTOCAST[self.recipe.train.precision] or torch.float32

    def _prove(
        self, verdicts: list[str], proof: Callable[[], Report], *, verify: bool, verbose: bool
    ) -> Report | None:
        """Prove a folder; without what it is compared with nothing can be, which is reported."""
        if not verify:
            verdicts.append(NOT_VERIFIED)
            return None
        try:
            report = proof()
        except MissingExtraError as error:
            verdicts.append(f"NOT CHECKED: {error}")
            return None
        *lines, verdict = proof_lines(report) if verbose else report.summary()
        for line in lines:
            if verbose or not line.startswith(("PASS", "NOT CHECKED")):
                self.write_line(line)
        verdicts.append(verdict)
        return report

    def _look(self) -> None:
        """Write `insights.json`; the model is there already, and no fault here takes it back."""
        try:
            found = insights.look(self.recipe, self.prepared)
            text = None if found is None else json.dumps(found, ensure_ascii=False, allow_nan=False)
        except Exception as error:  # a page without a part is better than a run that fails after its end
            notice("no-insights", f"The report has no examples: {type(error).__name__}: {error}")
            return
        if text is not None:
            self.run.write(INSIGHTS, text + "\n")

    def _write_end(self, saved: Saved, report: Report | None, **speed: Any) -> None:
        fit = self.fit
        self.run.event(
            "end",
            steps=fit.steps,
            best=fit.model_state,
            stopped_early=fit.stopped_early,
            model=dict(saved.files),
            changes=trimmed(saved.changes),
            proof=[] if report is None else trimmed(proof_lines(report)),
            not_verified=NOT_VERIFIED if report is None else "",
            passed=None if report is None else report.passed,
            **speed,
            **peak_memory(next(self.prepared.model.parameters()).device),
        )


def proof_lines(report: Report) -> list[str]:
    """Every check of a proof, and the verdict."""
    return [*(line for level in report.levels for line in level.lines()), report.verdict()]
