"""What every rule of the linter looks at: the folder, its family, and what its tensors are for."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from biject.checkpoint.reader import Reader
from biject.checkpoint.source import Source
from biject.errors import BijectError
from biject.families import Family, family
from biject.identify import Identity, identify
from biject.pretrained import same_tensors
from biject.verify.report import Finding, Severity, listed
from biject.verify.subject import resolved_by_tensors
from biject.weights.plan import Same


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A folder that could be opened.

    Attributes:
        source: Headers, config and file names.
        reader: The tensors.
        family: By `model_type`; None if Biject knows no such family.
        identity: Head and plan; None where config and tensors do not fit each other.
        problem: Why there is no identity.
        same: Whether two tensors have the same bytes.
    """

    source: Source
    reader: Reader
    family: Family | None
    identity: Identity | None
    problem: str | None
    same: Same

    @property
    def config(self) -> Mapping[str, Any]:
        """config.json."""
        return self.source.config

    def disk(self, memory: str) -> str | None:
        """The tensor of the file that is read as the parameter `memory`."""
        if self.identity is None:
            return None
        return next((b.disk[0] for b in self.identity.plan.bindings if b.memory == memory), None)


def gather(source: Source) -> Facts:
    """Identify the folder as loading would; a problem is kept, not raised."""
    same = same_tensors(source)
    known, identity, problem = None, None, None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # notices: the rules report the same in their own words
        try:
            known = family(source.config.get("model_type"))
            identity = identify(
                source.config,
                source.tensors,
                same=same,
                legacy=resolved_by_tensors(source).get("legacy"),
                where=str(source.folder),
            )
        except BijectError as error:
            problem = str(error)
    return Facts(
        source=source, reader=Reader(source), same=same, family=known, identity=identity, problem=problem
    )


def error(code: str, where: str | Iterable[str], meaning: str, advice: str) -> Finding:
    """A finding that fails the gate."""
    return _finding(code, "error", where, meaning, advice)


def warning(code: str, where: str | Iterable[str], meaning: str, advice: str) -> Finding:
    """A finding that does not."""
    return _finding(code, "warning", where, meaning, advice)


def _finding(code: str, severity: Severity, where: str | Iterable[str], meaning: str, advice: str) -> Finding:
    place = where if isinstance(where, str) else listed(where, most=4)
    return Finding(code=code, severity=severity, where=place, meaning=meaning, advice=advice)
