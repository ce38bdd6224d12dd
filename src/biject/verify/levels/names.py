"""Level `names`: the export has the source's tensor names."""

from __future__ import annotations

from collections.abc import Iterable, Set

from biject.verify.levels.changes import expected_names
from biject.verify.report import Check, listed
from biject.verify.subject import Subject


def names(subject: Subject) -> list[Check]:
    """Equal sets; after a change of head, exactly what the new head uses, the rest listed."""
    assert subject.source is not None
    source, export = set(subject.source.tensors), set(subject.export.tensors)
    expected = expected_names(subject)
    needed = expected.kept | expected.new
    if export != needed:
        return [Check(name="tensor names", passed=False, detail=_listed(needed - export, export - needed))]
    detail = f"equal ({len(export)} tensors)"
    if export != source:
        detail = f"head changed, as listed: {_listed(source - export, export - source)}"
    return [Check(name="tensor names", passed=True, detail=detail)]


def _listed(gone: Set[str], new: Set[str]) -> str:
    parts = [f"not in the export: {some(gone)}"] if gone else []
    parts += [f"only in the export: {some(new)}"] if new else []
    return "; ".join(parts)


def some(values: Iterable[str]) -> str:
    """The first few names in alphabetical order, and how many more there are."""
    return listed(sorted(values))
