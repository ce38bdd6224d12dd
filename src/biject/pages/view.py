"""What a page shows of a run, made ready for the template: words and charts, no mark-up."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from biject.config.metric import smaller_is_better
from biject.pages.chart import Chart
from biject.pages.curves import charts, tokens_per_second, unit
from biject.pages.evaluated import Evaluations, evaluations
from biject.pages.findings import Findings, findings
from biject.pages.merged import Merge, merge_of
from biject.pages.read import INSIGHTS, MERGE, VERIFY, Run
from biject.pages.settings import Setting, settings
from biject.pages.words import (
    column,
    compact,
    duration,
    flops,
    metric_name,
    number,
    percent,
    size,
    tick,
    when,
)

TASKS = {
    "seqcls": "text classification",
    "imgcls": "image classification",
    "tokcls": "token classification",
    "qa": "question answering",
    "mlm": "masked language modelling",
    "causal": "language modelling",
    "dpo": "preference tuning (DPO)",
    "reward": "reward modelling",
    "embed": "embeddings",
    "rerank": "reranking",
}
_HEADLINE = (
    *("f1", "f1_macro", "accuracy", "exact_match", "ndcg@10", "spearman", "pearson", "perplexity", "loss"),
)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A number of the headline: its name, its value, and what else there is to say of it."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class View:
    """Everything that the template takes; see its fields' makers."""

    title: str
    model: str
    task: str
    data: str
    state: str
    state_kind: str
    verdict: str
    began: str
    heard: tuple[str, str] | None
    alerts: tuple[str, ...]
    progress: float | None
    headline: Figure | None
    baseline: str
    figures: tuple[Figure, ...]
    charts: tuple[Chart, ...]
    evaluations: Evaluations
    merge: Merge | None
    findings: Findings
    data_lines: tuple[str, ...]
    changes: tuple[str, ...]
    best: str
    proof: tuple[tuple[str, str, str], ...]
    proof_lines: tuple[str, ...]
    not_verified: str
    changed_settings: tuple[Setting, ...]
    other_settings: tuple[Setting, ...]
    environment: tuple[tuple[str, str], ...]

    @property
    def parts(self) -> tuple[tuple[str, str], ...]:
        """Anchors and names of the parts that are there, in their order."""
        found = self.findings
        known = (
            ("curves", "Curves", self.charts),
            ("evaluations", "Evaluations", True),
            (
                "right",
                "What it gets right",
                found.confusion or found.per_label or found.calibration or found.scatter,
            ),
            (
                "surprise",
                "Samples",
                found.texts or found.tagged or found.answers or found.tokens or found.pairs,
            ),
            ("proof", "Proof", self.proof or self.not_verified or self.verdict),
            ("merge", "Merge", self.merge),
            ("data", "Data", self.data_lines),
            ("recipe", "Recipe", self.changed_settings),
            ("environment", "Environment", self.environment),
        )
        return tuple((place, name) for place, name, there in known if there)


def view(run: Run) -> View:
    """A run as a page shows it now."""
    recipe, start, end = run.recipe, run.start, run.end or {}
    insights, verify = run.document(INSIGHTS), run.document(VERIFY) if run.end else {}
    state, kind = _state(run)
    model = start.get("model") if isinstance(start.get("model"), dict) else {}
    differing, same = settings(recipe)
    headline, shown = _headline(run, insights), findings(insights)
    return View(
        title=run.folder.name or str(run.folder),
        model=_last(recipe.get("model")),
        task=TASKS.get(str(recipe.get("task")), str(recipe.get("task", "training"))),
        data=_last(recipe.get("data")),
        state=state,
        state_kind=kind,
        verdict=_verdict(run, verify),
        began=when(start.get("began"))[:10],
        heard=_heard(run),
        alerts=_alerts(run),
        progress=_progress(run),
        headline=headline,
        baseline=shown.baseline if headline and headline.name == "Accuracy" and run.end else "",
        figures=_figures(run, model or {}),
        charts=charts(run),
        evaluations=evaluations(run),
        merge=merge_of(run.document(MERGE)) if run.end else None,
        findings=shown,
        data_lines=_strings(start.get("data_lines")),
        changes=_strings(end.get("changes")),
        best=_brief(end.get("best")),
        proof=_proof(verify),
        proof_lines=_strings(end.get("proof")),
        not_verified=str(end.get("not_verified", "")),
        changed_settings=differing,
        other_settings=same,
        environment=_environment(start.get("environment"), verify.get("environment"), _peak(end)),
    )


def _heard(run: Run) -> tuple[str, str] | None:
    """When a run that has not ended wrote something last: for machines, and for people."""
    text = "" if run.end is not None else when(run.last_time)
    return (f"{text.replace(' ', 'T')}Z", f"{text} UTC") if text else None


def _progress(run: Run) -> float | None:
    """The share of the steps that a run that goes on has done, in percent."""
    total = number(run.start.get("total_steps"))
    return None if run.end is not None or not total else min(100.0, 100 * max(run.steps, default=0) / total)


def _alerts(run: Run) -> tuple[str, ...]:
    """What nobody should have to find in a curve."""
    found = []
    for name, words in (("loss", "The training loss"), ("grad_norm", "The gradient’s norm")):
        bad = [step for step in sorted(run.steps) if _not_finite(run.steps[step].get(name))]
        if bad:
            times = "in step" if len(bad) == 1 else f"in {len(bad):,} steps, first in step"
            found.append(f"{words} was not a finite number {times} {bad[0]:,}.")
    return tuple(found)


def _not_finite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _peak(end: Mapping[str, Any]) -> dict[str, str]:
    rate = flops(number(end.get("peak_flops")))
    return {"MFU is of": f"{rate}: {end.get('peak_of', '')}"} if rate and number(end.get("mfu")) else {}


def _state(run: Run) -> tuple[str, str]:
    total, done = number(run.start.get("total_steps")), max(run.steps, default=0)
    of = f" of {total:,.0f}" if total else ""
    if run.end is not None:
        return ("stopped early" if run.end.get("stopped_early") else "complete"), "done"
    if run.interrupted is not None:
        return f"interrupted by {run.interrupted.get('reason', 'somebody')} after step {done:,}{of}", "wait"
    return f"step {done:,}{of}", "wait"


def _verdict(run: Run, verify: Mapping[str, Any]) -> str:
    if run.end is None:
        return ""
    passed = run.end.get("passed", verify.get("passed"))
    return "verified" if passed is True else "verification failed" if passed is False else "not verified"


def _headline(run: Run, insights: Mapping[str, Any]) -> Figure | None:
    """The best evaluation's metric that says most, with its uncertainty where that is known."""
    best = _best(run)
    if best is None:
        return None
    name = next((name for name in _HEADLINE if number(best.get(name)) is not None), None)
    wanted = _metric(run).lstrip("-")
    if wanted != "loss" and number(best.get(wanted)) is not None:
        name = wanted
    if name is None:
        return None
    value = best[name]
    known = insights.get("intervals")
    sure = known.get(name) if isinstance(known, dict) else None
    note = f"step {best.get('step')}"
    if isinstance(sure, dict) and run.end is not None:
        low, high = number(sure.get("low")), number(sure.get("high"))
        if low is not None and high is not None:
            note = f"95 % interval {_metric_value(name, low)} to {_metric_value(name, high)}, {note}"
    return Figure(name=metric_name(name), value=_metric_value(name, value), note=note)


def _best(run: Run) -> Mapping[str, Any] | None:
    """The best evaluation by the recipe's metric."""
    metric = _metric(run)
    name, sign = metric.lstrip("-"), -1 if smaller_is_better(metric) else 1
    scored = [(number(found.get(name)), found) for found in run.ordered(run.evaluations)]
    known = [(sign * value, found) for value, found in scored if value is not None]
    return max(known, key=lambda pair: pair[0])[1] if known else None


def _metric(run: Run) -> str:
    train = run.recipe.get("train")
    return str(train.get("metric", "-loss")) if isinstance(train, dict) else "-loss"


def _metric_value(name: str, value: Any) -> str:
    found = number(value)
    shares = ("accuracy", "precision", "recall", "exact_match")
    if found is not None and 0 <= found <= 1 and (name.startswith("f1") or name in shares):
        return percent(found)
    return column([value])[0]


def _figures(run: Run, model: Mapping[str, Any]) -> tuple[Figure, ...]:
    steps = run.ordered(run.steps)
    end = run.end or {}
    tokens = sum(number(step.get("tokens")) or 0.0 for step in steps)
    slots = sum(number(step.get("slots")) or 0.0 for step in steps)
    of_slots = sum(number(step.get("tokens")) or 0.0 for step in steps if number(step.get("slots")))
    total, done = number(run.start.get("total_steps")), max(run.steps, default=0)
    rate = tokens_per_second(steps)
    trained, whole = number(model.get("num_trained")), number(model.get("num_parameters"))
    seconds = number(end.get("seconds")) or _seconds(run)
    found = [
        ("Steps", f"{done:,}" + (f" of {total:,.0f}" if total and total != done else ""), _epochs(run)),
        ("Time", duration(seconds), _left(run, rate_steps=steps, total=total)),
        (f"{unit(run)} a second", compact(rate), f"{compact(tokens)} in all"),
        ("Compute used (MFU)", percent(end.get("mfu")) if number(end.get("mfu")) else "",
         f"of {flops(number(end.get('peak_flops'))) or 'an unknown peak'}"),
        ("Padding left out", percent(1 - of_slots / slots) if slots else "", "of a padded batch's slots"),
        ("Parameters", compact(whole) if whole else "",
         f"{compact(trained)} trained" if trained is not None and trained != whole else "all trained"),
        ("Peak memory", size(end.get("peak_memory_bytes")) if end.get("peak_memory_bytes") else "",
         str(end.get("peak_memory_of", ""))),
    ]  # fmt: skip
    return tuple(Figure(name=name, value=value, note=note) for name, value, note in found if value)


def _epochs(run: Run) -> str:
    """How often all samples were seen, where that is what ends the run."""
    train = run.recipe.get("train")
    train = train if isinstance(train, dict) else {}
    epochs, total = number(train.get("epochs")), number(run.start.get("total_steps"))
    if not epochs or not total or train.get("max_steps") is not None:
        return ""
    done = epochs * min(1.0, max(run.steps, default=0) / total)
    return f"{tick(round(done, 2))} epoch{'' if done == 1 else 's'}" + (
        f" of {epochs:g}" if done < epochs else ""
    )


def _seconds(run: Run) -> float | None:
    steps = run.ordered(run.steps)
    return number(steps[-1].get("seconds")) if steps else None


def _left(run: Run, *, rate_steps: list[Mapping[str, Any]], total: float | None) -> str:
    """How long it will still take, in words; empty for a run that has ended."""
    seconds, done = _seconds(run), len(rate_steps)
    if run.end is not None or run.interrupted is not None or not total or not seconds or not done:
        return ""
    remaining = total - max(run.steps)
    recent = rate_steps[-min(done, 100) :]
    first, last = number(recent[0].get("seconds")), number(recent[-1].get("seconds"))
    if first is None or last is None or last <= first:
        return ""
    return f"about {duration(remaining * (last - first) / (len(recent) - 1))} left"


def _brief(best: Any) -> str:
    """Without the values, which the table has."""
    return str(best or "").partition(": ")[0]


def _proof(verify: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    """Level, what came of it, and in words."""
    found = []
    levels = verify.get("levels")
    for level in levels if isinstance(levels, list) else ():
        if not isinstance(level, dict):
            continue
        checks = level.get("checks")
        checks = [check for check in checks if isinstance(check, dict)] if isinstance(checks, list) else []
        failed = [check for check in checks if check.get("passed") is not True]
        status = str(level.get("status", ""))
        words = f"{len(checks) - len(failed):,} of {len(checks):,} checks passed"
        if status == "skipped":
            words = str(level.get("reason") or "skipped")
        found.append((str(level.get("name", "")), status, words))
        found += [(str(check.get("name", "")), "fail", str(check.get("detail", ""))) for check in failed[:20]]
    return tuple(found)


def _environment(*places: Any) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for place in places:
        for name, value in (place if isinstance(place, dict) else {}).items():
            plain = value if isinstance(value, str | int | float) else None
            if plain is not None:
                found.setdefault(str(name).replace("_", " "), str(plain))
    return tuple(list(found.items())[:60])


def _strings(value: Any) -> tuple[str, ...]:
    lines = value if isinstance(value, list) else []
    return tuple(str(line) for line in lines if isinstance(line, str))


def _last(value: Any) -> str:
    """A path's last parts, a repository's whole name."""
    text = str(value or "")
    return PurePath(text).name or text if text.startswith(("/", "~")) else text
