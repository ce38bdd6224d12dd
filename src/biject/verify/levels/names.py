"""Level `names`: the export holds the source's tensor names."""

from __future__ import annotations

from collections.abc import Iterable

from biject.verify.levels.changes import same_head
from biject.verify.report import Check
from biject.verify.subject import Subject


def names(subject: Subject) -> list[Check]:
    """Equal sets; after an intended change of head, the base model's names stay and the rest is listed."""
    assert subject.source is not None
    source, export = set(subject.source.tensors), set(subject.export.tensors)
    gone, new = source - export, export - source
    if same_head(subject):
        passed = not gone and not new
        detail = f"equal ({len(export)} tensors)" if passed else _listed(gone, new)
        return [Check(name="tensor names", passed=passed, detail=detail)]
    used = {disk for binding in subject.ours.provenance.plan.bindings for disk in binding.disk}
    head_only = {name for name in new if name in used}
    lost = {name for name in gone if name in used}
    passed = not lost and new == head_only
    detail = f"head changed, as listed: {_listed(gone, new)}" if passed else _listed(lost, new - head_only)
    return [Check(name="tensor names", passed=passed, detail=detail)]


def _listed(gone: set[str], new: set[str]) -> str:
    parts = [f"not in the export: {some(gone)}"] if gone else []
    parts += [f"only in the export: {some(new)}"] if new else []
    return "; ".join(parts) or "no difference"


def some(values: Iterable[str], *, most: int = 6) -> str:
    """The first few names, and how many more there are."""
    ordered = sorted(values)
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + more
