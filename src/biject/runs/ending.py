"""The end of a run: the model is exported and proved, the report written, and said what came out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from biject.config.recipe import FinetuneRecipe
from biject.errors import MissingExtraError
from biject.events import notice
from biject.pages.render import render_report
from biject.pages.words import compact, duration, size
from biject.runs import insights
from biject.runs.facts import peak_memory
from biject.runs.folder import INSIGHTS, REPORT, VERIFY, RunFolder
from biject.runs.log import RunLog, trimmed
from biject.runs.prepare import Prepared
from biject.runs.proof import prove
from biject.save import Saved, save_model
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

    def write(
        self, events: RunLog, *, verify: bool, verbose: bool, force: bool
    ) -> tuple[Saved, Report | None]:
        """Model, proof, insights, report; returns what was saved, and the proof."""
        run, write_line = self.run, self.write_line
        if self.fit.stopped_early:
            patience = self.recipe.train.patience
            write_line(
                f"STOPPED EARLY after step {self.fit.steps}: {patience} evaluations without a better one"
            )
        seconds = events.seconds()
        saved = self._save(force=force)
        report, verdict = self._prove(verbose=verbose) if verify else (None, NOT_VERIFIED)
        self._look()
        rate = events.tokens_per_second()
        speed = events.flops.to_json(tokens_per_second=rate, dtype=self._dtype())
        self._write_end(saved, report, seconds=seconds, **speed)
        run.write(REPORT, render_report(run.folder))
        fast = f", {compact(rate)} tokens/s" if rate else ""
        write_line(f"DONE {self.fit.steps:,} steps in {duration(seconds)}{fast}")
        write_line(f"MODEL {saved.architecture} in {run.model}, {size(saved.weight_bytes)}")
        write_line(verdict)
        write_line(f"REPORT {run.folder / REPORT}")
        if not self.recipe.train.checkpoint_every:  # that of the best state, which model/ has
            run.drop_checkpoints()
        return saved, report

    def _save(self, *, force: bool) -> Saved:
        dtype: torch.dtype = getattr(torch, self.recipe.dtype)
        prepared = self.prepared
        return save_model(
            prepared.model,
            self.run.model,
            dtype=dtype,
            force=force,
            extra=prepared.extra,
            without=prepared.without,
        )

    def _dtype(self) -> torch.dtype:
        """What products are computed in."""
        return AUTOCAST[self.recipe.train.precision] or torch.float32

    def _prove(self, *, verbose: bool) -> tuple[Report | None, str]:
        """Verify the export; without transformers nothing can be compared, which is reported."""
        samples: Sequence[Any] = self.prepared.samples.evaluation or self.prepared.samples.train
        try:
            report = prove(self.prepared.model, self.run.model, samples, self.prepared.collate)
        except MissingExtraError as error:
            return None, f"NOT CHECKED reload, trained: {error}"
        self.run.write(VERIFY, report.to_json() + "\n")
        *lines, verdict = proof_lines(report) if verbose else report.summary()
        for line in lines:
            if verbose or not line.startswith(("PASS", "NOT CHECKED")):
                self.write_line(line)
        return report, verdict

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
