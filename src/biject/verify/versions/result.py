"""What the version watch found, as data, lines and rows of a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

NOTHING = "nothing"
Kind = Literal["names", "bytes", "forward", "hidden", "gradients", "padding"]
"""`hidden`: the list of hidden layers. `padding`: rows at padding alone, which mean nothing; no failure."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing in which a release and Biject differ."""

    kind: Kind
    detail: str
    max_abs_diff: float | None = None


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What a release wrote and computed for one cell: digests by name, and values of config.json."""

    tensors: dict[str, str]
    config: dict[str, str]
    files: tuple[str, ...]
    outputs: dict[str, str]
    gradients: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Change:
    """What differs between two releases' checkpoints, or between what they computed from equal ones."""

    kind: Literal["names", "bytes", "config", "files", "bits"]
    detail: str


@dataclass(frozen=True, kw_only=True)
class WatchedCell:
    """One family with one head in one release.

    Attributes:
        absent: Why the release has no such model; it is no failure.
        error: What kept the cell from being compared.
        findings: Where the release and Biject differ on what the release wrote.
        of_newest: The same on what the newest release wrote; None where that was not tried.
    """

    family: str
    head: str
    absent: str | None = None
    error: str | None = None
    findings: tuple[Finding, ...] = ()
    of_newest: tuple[Finding, ...] | None = None
    traits: Traits | None = None

    @property
    def passed(self) -> bool:
        """Names, bytes and bits are ours, or there is no such model."""
        return self.error is None and not self.failures

    @property
    def failures(self) -> tuple[Finding, ...]:
        """Findings that fail the gate."""
        return tuple(found for found in self.findings if found.kind != "padding")

    @property
    def mark(self) -> str:
        """What failed, in a word or two."""
        return "error" if self.error is not None else ",".join(dict.fromkeys(f.kind for f in self.failures))


@dataclass(frozen=True, kw_only=True)
class Release:
    """One release with its cells."""

    requested: str
    version: str
    cells: tuple[WatchedCell, ...]

    def of(self, family: str) -> tuple[WatchedCell, ...]:
        """A family's cells that this release has."""
        return tuple(cell for cell in self.cells if cell.family == family and cell.absent is None)


@dataclass(frozen=True, kw_only=True)
class Watch:
    """All releases, oldest first."""

    releases: tuple[Release, ...]
    about: dict[str, Any] = field(default_factory=dict)
    newest: str | None = None
    """The release whose files were given to the older ones."""

    @property
    def passed(self) -> bool:
        """Every release has a cell, and all cells have our names, bytes and bits."""
        present = [[cell for cell in release.cells if cell.absent is None] for release in self.releases]
        return bool(present) and all(cells and all(cell.passed for cell in cells) for cells in present)

    @property
    def present(self) -> list[WatchedCell]:
        """Cells that their releases have."""
        return [cell for release in self.releases for cell in release.cells if cell.absent is None]

    @property
    def families(self) -> list[str]:
        """In the order in which they were watched."""
        return list(dict.fromkeys(cell.family for release in self.releases for cell in release.cells))

    def changes(self, family: str) -> list[tuple[str, str, Change]]:
        """(release, head, change) for everything that a release does otherwise than the one before it."""
        found = []
        for before, after in zip(self.releases, self.releases[1:], strict=False):
            old = {cell.head: cell.traits for cell in before.of(family)}
            for cell in after.of(family):
                if (earlier := old.get(cell.head)) is not None and cell.traits is not None:
                    found += [(after.version, cell.head, c) for c in changes(earlier, cell.traits)]
        return found

    def table(self) -> tuple[list[str], list[list[str]]]:
        """(header, rows): a family a row, a release a column, then what changed from one to the next."""
        header = ["family", *(release.version for release in self.releases), "what changed"]
        rows = [
            [family, *(mark(release.of(family)) for release in self.releases), self.change_words(family)]
            for family in self.families
        ]
        return header, rows

    def change_words(self, family: str) -> str:
        """What changed, in one cell of the table: by release, kind and detail, with the heads."""
        grouped: dict[tuple[str, Change], list[str]] = {}
        for version, head, change in self.changes(family):
            grouped.setdefault((version, change), []).append(head)
        count = {r.version: len(r.of(family)) for r in self.releases}
        parts: dict[str, list[str]] = {}
        for (version, change), heads in grouped.items():
            where = "" if len(heads) == count[version] else f" ({', '.join(heads)})"
            parts.setdefault(version, []).append(f"{change.kind}: {change.detail}{where}")
        return "; ".join(f"**{version}** {', '.join(words)}" for version, words in parts.items()) or NOTHING

    def lines(self) -> list[str]:
        """What failed, what changed, what the releases make of the newest one's files, then one verdict."""
        lines = []
        for release in self.releases:
            for cell in release.cells:
                place = f"{release.version} {cell.family} {cell.head}"
                lines += [] if cell.error is None else [f"FAIL {place}: {cell.error}"]
                lines += [f"FAIL {place}: {found.kind} {found.detail}" for found in cell.failures]
        for family in self.families:
            words = self.change_words(family)
            lines += [f"CHANGED {family}: {words.replace('*', '')}"] if words != NOTHING else []
        return [*lines, *self.newest_lines(), self.verdict()]

    def newest_lines(self) -> list[str]:
        """Where a release loads or computes the newest one's files otherwise than they are meant."""
        return [
            f"NOTE {release.version} takes what {self.newest} wrote otherwise: {family}: {words}"
            for release in self.releases
            for family in self.families
            if (words := newest_words(release.of(family)))
        ]

    def verdict(self) -> str:
        """One line."""
        count = sum(cell.passed for cell in self.present)
        versions = ", ".join(release.version for release in self.releases)
        word = "PASS" if self.passed else "FAIL"
        return f"VERDICT {word} {count}/{len(self.present)} cells (transformers {versions})"

    def to_json(self, *, indent: int | None = 2) -> str:
        """Everything but the digests, with the changes between releases."""
        releases = []
        for release in self.releases:
            cells = [asdict(replace(cell, traits=None)) | {"passed": cell.passed} for cell in release.cells]
            for cell in cells:
                del cell["traits"]
            releases.append({"requested": release.requested, "version": release.version, "cells": cells})
        header, rows = self.table()
        moved = [
            {"family": family, "release": version, "head": head, **asdict(change)}
            for family in self.families
            for version, head, change in self.changes(family)
        ]
        value = {
            "passed": self.passed,
            "about": self.about,
            "newest": self.newest,
            "table": [header, *rows],
            "changes": moved,
        }
        return json.dumps(value | {"releases": releases}, indent=indent, ensure_ascii=False, default=str)


def mark(cells: Sequence[WatchedCell]) -> str:
    """How many of a family's heads have our names, bytes and bits, and what those lack that have not."""
    if not cells:
        return "–"
    wrong = [f"{cell.head}: {cell.mark}" for cell in cells if not cell.passed]
    return f"{len(cells) - len(wrong)}/{len(cells)}" + (f" ({'; '.join(wrong)})" if wrong else "")


def newest_words(cells: Sequence[WatchedCell]) -> str:
    """What a release makes of the newest one's files of a family: the worst of each kind, and the heads."""
    grouped: dict[Kind, list[tuple[str, Finding]]] = {}
    for cell in cells:
        for found in (one for one in cell.of_newest or () if one.kind != "padding"):
            grouped.setdefault(found.kind, []).append((cell.head, found))
    words = []
    for kind, those in grouped.items():
        worst = max((found for _, found in those), key=lambda found: found.max_abs_diff or 0.0)
        heads = dict.fromkeys(head for head, _ in those)
        words.append(f"{kind} ({', '.join(heads)}) {worst.detail}")
    return "; ".join(words)


def changes(before: Traits, after: Traits) -> list[Change]:
    """What a release does otherwise than the one before it."""
    found = [
        *_keys("names", before.tensors, after.tensors),
        *_keys("files", dict.fromkeys(before.files, ""), dict.fromkeys(after.files, "")),
        *_values("bytes", before.tensors, after.tensors),
        *_keys("config", before.config, after.config),
        *_values("config", before.config, after.config),
    ]
    if before.tensors == after.tensors:  # else other numbers say nothing
        for what, old, new in (
            ("outputs", before.outputs, after.outputs),
            ("gradients", before.gradients, after.gradients),
        ):
            cases = dict.fromkeys(
                name.partition("|")[0] for name in old if old[name] != new.get(name, old[name])
            )
            found += [Change(kind="bits", detail=f"{what} of {_few(list(cases))}")] if cases else []
            more = sorted({name.split("|")[1] for name in {*old} ^ {*new}})
            found += [Change(kind="names", detail=f"{what} {_few(more)}")] if more else []
    return found


def _keys(kind: Any, before: dict[str, str], after: dict[str, str]) -> list[Change]:
    gone, new = [name for name in before if name not in after], [name for name in after if name not in before]
    short_gone, short_new = _short(gone), _short(new)
    if not {*short_gone} & {*short_new}:
        gone, new = short_gone, short_new
    words = [f"− {_few(gone)}"] if gone else []
    words += [f"+ {_few(new)}"] if new else []
    return [Change(kind=kind, detail=" ".join(words))] if words else []


def _short(names: list[str]) -> list[str]:
    """The last two parts of names, each once: what happened to a norm happened in every layer."""
    return list(dict.fromkeys(".".join(name.split(".")[-2:]) for name in names))


def _values(kind: Any, before: dict[str, str], after: dict[str, str]) -> list[Change]:
    other = [name for name in before if name in after and before[name] != after[name]]
    return [Change(kind=kind, detail=f"other {_few(other)}")] if other else []


def _few(names: list[str], most: int = 4) -> str:
    return ", ".join(f"`{name}`" for name in names[:most]) + (
        f" and {len(names) - most} more" if len(names) > most else ""
    )
