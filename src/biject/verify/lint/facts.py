"""What every rule of the linter looks at: the folder, its family, and what its tensors are for."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from biject.checkpoint.bytes import tensor_bytes
from biject.checkpoint.reader import Reader
from biject.checkpoint.source import Source
from biject.errors import BijectError
from biject.families import Family, family
from biject.identify import Identity, identify
from biject.verify.report import Finding
from biject.verify.subject import settled_by_tensors


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A folder that could be opened.

    Attributes:
        source: Headers, config and file names.
        reader: The tensors.
        family: By `model_type`; None if Biject knows no such family.
        identity: Head and plan; None where config and tensors do not fit each other.
        problem: Why there is no identity.
    """

    source: Source
    reader: Reader
    family: Family | None
    identity: Identity | None
    problem: str | None

    @property
    def config(self) -> Mapping[str, Any]:
        """config.json."""
        return self.source.config

    def disk(self, memory: str) -> str | None:
        """The tensor of the file that is read as the parameter `memory`."""
        if self.identity is None:
            return None
        return next((b.disk[0] for b in self.identity.plan.bindings if b.memory == memory), None)

    def same(self, one: str, other: str) -> bool:
        """Whether two tensors hold the same bytes."""
        return _same(self.reader, one, other)


def gather(source: Source) -> Facts:
    """Identify the folder as loading would; a problem is kept, not raised."""
    reader = Reader(source)
    known, identity, problem = None, None, None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # notices: the rules say the same in their own words
        try:
            known = family(source.config.get("model_type"))
            identity = identify(
                source.config,
                source.tensors,
                same=lambda one, other: _same(reader, one, other),
                legacy=settled_by_tensors(source).get("legacy"),
                where=str(source.folder),
            )
        except BijectError as error:
            problem = str(error)
    return Facts(source=source, reader=reader, family=known, identity=identity, problem=problem)


def _same(reader: Reader, one: str, other: str) -> bool:
    a, b = reader.tensor(one), reader.tensor(other)
    return a.dtype == b.dtype and a.shape == b.shape and tensor_bytes(a) == tensor_bytes(b)


def error(code: str, where: str | Iterable[str], meaning: str, advice: str) -> Finding:
    """A finding that fails the gate."""
    return Finding(code=code, severity="error", where=listed(where), meaning=meaning, advice=advice)


def warning(code: str, where: str | Iterable[str], meaning: str, advice: str) -> Finding:
    """A finding that does not."""
    return Finding(code=code, severity="warning", where=listed(where), meaning=meaning, advice=advice)


def listed(names: str | Iterable[str], *, most: int = 4) -> str:
    """The first few names, and how many more there are."""
    if isinstance(names, str):
        return names
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more
