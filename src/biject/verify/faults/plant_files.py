"""Plant each file fault in a copy, run the levels that have to catch it, report the outcome."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from biject.errors import BijectError
from biject.verify.faults.copy import Copy
from biject.verify.faults.file_faults import OPENING, FileFault
from biject.verify.faults.outcome import DoesNotApply, Outcome
from biject.verify.lint import lint, lint_unreadable
from biject.verify.report import LevelResult
from biject.verify.run import run_level
from biject.verify.subject import Subject

CASES = ("right-padded",)
"""The built-in calls that are made to see a fault; the others would see no more of it."""

MOST_WORDS = 300


def plant_files(faults: Iterable[FileFault], subject: Subject, against: Path) -> Iterator[Outcome]:
    """One outcome a fault.

    Args:
        faults: What to plant.
        subject: The export; its models are used, its folder is only read.
        against: The folder that damaged copies are compared with.
    """
    already = frozenset(f"lint:{finding.code}" for finding in lint(subject.export)) | _failing_alone(subject)
    for fault in faults:
        if fault.alone and not fault.levels and already.issuperset(fault.alone):
            reason = "the export itself has this fault, or fails without a source"
            yield Outcome(kind=fault.kind, status="does not apply", detail=reason)
            continue
        with tempfile.TemporaryDirectory(prefix="biject-fault-") as work:
            copy = _copy(subject, Path(work) / subject.folder.name)
            try:
                planted = fault.plant(copy)
            except DoesNotApply as reason:
                yield Outcome(kind=fault.kind, status="does not apply", detail=str(reason))
                continue
            yield _judge(fault, copy, subject, against, planted, already)


def _failing_alone(subject: Subject) -> frozenset[str]:
    """Levels that the undamaged export fails without a source: they cannot show anything new."""
    opened = _open(subject.folder, subject, source=None)
    return frozenset({"reload"}) if _caught("reload", opened, subject.folder) else frozenset()


def _copy(subject: Subject, folder: Path) -> Copy:
    ours = subject.ours
    folder.mkdir()
    plan = ours.provenance.plan
    return Copy(
        subject.export,
        folder,
        family=subject.family,
        head=subject.head,
        values=ours.resolved_config,
        plan=plan,
    )


def _judge(
    fault: FileFault, copy: Copy, subject: Subject, against: Path, planted: str, already: frozenset[str]
) -> Outcome:
    """Every level that has to catch it, one by one."""
    found: list[str] = []
    missed: list[str] = []
    compared = _open(copy.folder, subject, source=against)
    alone = _open(copy.folder, subject, source=None)
    by_itself = tuple(level for level in fault.alone if level not in already)
    for opened, levels, words in ((compared, fault.levels, ""), (alone, by_itself, " without a source")):
        for level in levels:
            detail = _caught(level, opened, copy.folder)
            if detail is None:
                missed.append(level + words)
            else:
                found.append(detail)
    names = (*fault.levels, *(f"{level} without a source" for level in by_itself))
    return Outcome(
        kind=fault.kind,
        status="missed" if missed else "caught",
        planted=planted,
        levels=names,
        detail=f"not caught by {', '.join(missed)}" if missed else _best(found, copy.folder),
    )


def _best(found: list[str], folder: Path) -> str:
    """The words with the place, if any; the temporary folder is left out of a report."""
    words = next((detail for detail in found if "first difference" in detail), found[0])
    words = words.replace(str(folder), "the copy")
    return words if len(words) <= MOST_WORDS else f"{words[:MOST_WORDS]}…"


def _open(folder: Path, subject: Subject, *, source: Path | None) -> Subject | BijectError:
    """The damaged copy as a subject; HF's copies of what it is compared with are loaded only once."""
    try:
        opened = Subject(folder, source=source)
        opened.loaded.update({key: model for key, model in subject.loaded.items() if key[0] == source})
        opened.cases = [case for case in subject.cases if case.name in CASES]
    except BijectError as error:
        return error
    return opened


def _caught(level: str, opened: Subject | BijectError, folder: Path) -> str | None:
    """What the level that caught it found, or None."""
    name, _, code = level.partition(":")
    if name == OPENING:
        return str(opened) if isinstance(opened, BijectError) else None
    if name == "lint":
        findings = lint_unreadable(folder) if isinstance(opened, BijectError) else lint(opened.export)
        found = [finding for finding in findings if finding.code == code]
        return f"{found[0].where}: {found[0].meaning}" if found else None
    if isinstance(opened, BijectError):
        return None
    result = run_level(name, opened)
    return _words(result) if result.status == "fail" else None


def _words(result: LevelResult) -> str:
    if not result.failures:
        return result.reason or "failed"
    check = result.failures[0]
    where = f"; first difference: {check.where}" if check.where else ""
    return f"{check.name} {check.detail}{where}"
