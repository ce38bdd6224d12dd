"""Level `faults`: the verifier can fail. Faults are planted, and each has to be caught."""

from __future__ import annotations

from pathlib import Path

from biject.checkpoint.source import Source
from biject.verify.faults.file_faults import FILE_FAULTS
from biject.verify.faults.outcome import Outcome
from biject.verify.faults.plant_files import CASES, plant_files
from biject.verify.levels.changes import declared_here, same_head
from biject.verify.report import Check
from biject.verify.run import run_level
from biject.verify.subject import Subject

LIGHT_BYTES = 256 * 2**20
"""Above this size of the weights only the light file faults are planted: each takes a copy of the folder."""
CONTROLS = ("names", "bytes", "hf-forward", "reload")


def faults(subject: Subject) -> list[Check]:
    """A control without any fault, one check a fault, and one that lists those with no place here."""
    control, outcomes = run_faults(subject)
    checks = [control, *(_check(outcome) for outcome in outcomes if outcome.status != "does not apply")]
    left = [
        f"{outcome.kind} ({outcome.detail})" for outcome in outcomes if outcome.status == "does not apply"
    ]
    if left:
        checks.append(Check(name=f"{len(left)} faults do not apply:", passed=True, detail="; ".join(left)))
    return checks + _note(subject)


def run_faults(subject: Subject) -> tuple[Check, list[Outcome]]:
    """The control and what became of every fault; no faults where the control itself fails."""
    against = _against(subject)
    control = _control(subject, against)
    if not control.passed:
        return control, []
    kinds = FILE_FAULTS if not _is_large(subject) else tuple(fault for fault in FILE_FAULTS if fault.light)
    return control, list(plant_files(kinds, subject, against))


def _against(subject: Subject) -> Path:
    """The source; the export itself where there is none, or head, dtype or values were changed on purpose."""
    source = subject.source
    if source is None or not same_head(subject) or _differs(source, subject.export):
        return subject.folder
    if declared_here(subject, "merged") or declared_here(subject, "resized"):
        return subject.folder
    return source.folder


def _differs(source: Source, export: Source) -> bool:
    return any(
        name not in export.tensors or export.tensors[name].dtype != info.dtype
        for name, info in source.tensors.items()
    )


def _control(subject: Subject, against: Path) -> Check:
    """The levels that catch faults have nothing to catch in the undamaged export."""
    good = Subject(subject.folder, source=against)
    good.loaded = subject.loaded
    good.cases = [case for case in subject.cases if case.name in CASES]
    good.their_source(class_name=good.named_class)
    results = [run_level(name, good) for name in CONTROLS]
    if against != subject.folder:
        good.their_source(class_name=good.named_class)  # every damaged copy is compared with it
    failed = [result.name for result in results if result.status != "pass"]
    named = "the source" if subject.source is not None and against == subject.source.folder else "itself"
    detail = f"passes every level that has to catch faults (compared with {named})"
    if failed:
        detail = f"fails {', '.join(failed)} with no fault planted, so no fault can prove anything"
    return Check(name="control: the export", passed=not failed, detail=detail)


def _check(outcome: Outcome) -> Check:
    word = "caught" if outcome.status == "caught" else "NOT CAUGHT"
    detail = f"({outcome.planted}) {word} by {', '.join(outcome.levels)}: {outcome.detail}"
    if outcome.status != "caught":
        detail = f"({outcome.planted}) {outcome.detail}"
    return Check(name=outcome.kind, passed=outcome.status == "caught", detail=detail)


def _is_large(subject: Subject) -> bool:
    return sum(info.nbytes for info in subject.export.tensors.values()) > LIGHT_BYTES


def _note(subject: Subject) -> list[Check]:
    if not _is_large(subject):
        return []
    left = ", ".join(fault.kind for fault in FILE_FAULTS if not fault.light)
    detail = f"weights above {LIGHT_BYTES >> 20} MiB, so these file faults were left out: {left}"
    return [Check(name="large model:", passed=True, detail=detail)]
