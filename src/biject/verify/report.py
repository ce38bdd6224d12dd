"""What a verification found, as data: checks, levels, one report. Drawing it is the command line's."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

Status = Literal["pass", "fail", "skipped", "n/a"]
Severity = Literal["error", "warning"]


class NothingToCompare(Exception):  # noqa: N818 (no error: the level is skipped for this reason)
    """A level has nothing to look at in this folder."""


class NotApplicable(NothingToCompare):
    """A level is about something that models of this kind do not have."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that the linter found in a folder.

    Attributes:
        code: Stable and machine-readable, e.g. `fresh-head`.
        severity: An `error` fails the gate, a `warning` does not.
        where: Tensors, keys or files, e.g. `classifier.weight`.
        meaning: What it means for users of the folder.
        advice: What to do.
    """

    code: str
    severity: Severity
    where: str
    meaning: str
    advice: str


@dataclass(frozen=True, kw_only=True)
class Check:
    """One comparison.

    Attributes:
        name: What was compared, e.g. `logits (1, 2)`.
        passed: Whether its gate was met.
        detail: What was found, e.g. `bit-exact (max abs diff = 0)`.
        case: The call it belongs to, e.g. `right-padded`; empty where there is none.
        max_abs_diff: Largest absolute difference, where numbers were compared.
        max_ulp: The same in units in the last place of the dtype.
        where: First diverging layer and operation, if the check failed and it was found.
        finding: What the linter found; a check that passed with one is a warning.
    """

    name: str
    passed: bool
    detail: str
    case: str = ""
    max_abs_diff: float | None = None
    max_ulp: int | None = None
    where: str | None = None
    finding: Finding | None = None

    def at(self, where: str) -> Check:
        """The same check, with the place of the first difference."""
        return replace(self, where=where)

    def line(self, level: str) -> str:
        """One plain line, e.g. `PASS forward logits (1, 2) bit-exact (max abs diff = 0)`."""
        word = "FAIL" if not self.passed else "WARN" if self.finding else "PASS"
        text = f"{word} {level} {self.name} {self.detail}"
        text += f" [{self.case}]" if self.case else ""
        return text + (f"; first difference: {self.where}" if self.where else "")


@dataclass(frozen=True, kw_only=True)
class LevelResult:
    """One level: passed, failed, skipped for a stated reason, or without a meaning for such models."""

    name: str
    status: Status
    checks: tuple[Check, ...] = ()
    reason: str | None = None
    seconds: float = 0.0

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if not check.passed)

    def lines(self) -> list[str]:
        """Plain lines; checks of one case that found the same share one. A skipped level has its reason."""
        if self.status in ("skipped", "n/a"):
            word = "SKIP" if self.status == "skipped" else "N/A"
            return [f"{word} {self.name} {self.reason or ''}".rstrip()]
        lines = [check.line(self.name) for check in _merged(self.checks)]
        if self.status == "fail" and self.reason:
            lines.append(f"FAIL {self.name} {self.reason}")
        return lines

    def summary(self) -> list[str]:
        """One line of what passed; each failure and warning in full."""
        if self.status in ("skipped", "n/a"):
            return self.lines()
        passed = [check for check in self.checks if check.passed and not check.finding]
        own = [check for check in passed if not check.case]
        words = f"{len(passed)} checks"
        if len(own) <= _MOST_IN_A_LINE:  # what is said of the whole folder: counts, declared differences
            words = "; ".join([*(f"{check.name} {check.detail}" for check in own), *_cases(passed)])
        lines = [f"PASS {self.name} {words}"] if passed else []
        lines += [check.line(self.name) for check in self.checks if not check.passed or check.finding]
        return lines + ([f"FAIL {self.name} {self.reason}"] if self.status == "fail" and self.reason else [])


_MOST_IN_A_LINE = 6


def _cases(passed: list[Check]) -> list[str]:
    """How many checks of single calls there are, and how far apart their numbers are."""
    found = [check for check in passed if check.case]
    if not found:
        return []
    largest = max((check.max_abs_diff or 0.0 for check in found), default=0.0)
    return [f"{len(found)} checks of calls, max abs diff = {largest:.3g}"]


def _merged(checks: tuple[Check, ...]) -> list[Check]:
    """Neighbours that passed with the same words about the same case become one check with both names."""
    merged: list[Check] = []
    for check in checks:
        last = merged[-1] if merged else None
        same = last and (last.case, last.passed, last.detail) == (check.case, True, check.detail)
        if last and same and check.case and check.passed:
            merged[-1] = replace(last, name=f"{last.name}, {check.name}")
        else:
            merged.append(check)
    return merged


def agreement(wrong: Collection[str]) -> str:
    """What a check of many tensors found: those that differ, or bits."""
    return f"differ: {listed(sorted(wrong))}" if wrong else "bit-exact (max abs diff = 0)"


def listed(names: Iterable[str], *, most: int = 6) -> str:
    """The first few names, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more


def level_result(name: str, checks: list[Check], *, seconds: float = 0.0) -> LevelResult:
    """A level passes if it made at least one check and all of them passed."""
    if not checks:
        return LevelResult(name=name, status="fail", reason="nothing was compared", seconds=seconds)
    status: Status = "pass" if all(check.passed for check in checks) else "fail"
    return LevelResult(name=name, status=status, checks=tuple(checks), seconds=seconds)


@dataclass(frozen=True, kw_only=True)
class Report:
    """A folder's verification.

    Attributes:
        folder: What was verified.
        source: What it was compared with, or None.
        model: Family, head, class, dtype: what was found in the folder.
        levels: Results in the order they ran.
        environment: Versions, threads, attention backend, this machine's kernel probe.
        not_checked: What no level looked at, in plain sentences.
    """

    folder: str
    source: str | None
    levels: tuple[LevelResult, ...]
    model: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    not_checked: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """No level failed and at least one passed."""
        statuses = [level.status for level in self.levels]
        return "fail" not in statuses and "pass" in statuses

    def level(self, name: str) -> LevelResult:
        """The result of one level.

        Raises:
            KeyError: That level is not part of this report.
        """
        for level in self.levels:
            if level.name == name:
                return level
        raise KeyError(f"no level {name!r} in this report, which has {[level.name for level in self.levels]}")

    def verdict(self) -> str:
        """The last line: what passed, what failed, what was skipped."""
        groups: dict[str, list[str]] = {"pass": [], "fail": [], "skipped": [], "n/a": []}
        for level in self.levels:
            groups[level.status].append(level.name)
        parts = [f"{key}: {', '.join(names)}" for key, names in groups.items() if names]
        return f"VERDICT {'PASS' if self.passed else 'FAIL'} {self.folder} ({'; '.join(parts)})"

    def lines(self) -> list[str]:
        """Every check as a plain line, what was not checked, then one verdict."""
        lines = [line for level in self.levels for line in level.lines()]
        lines += [f"NOT CHECKED {sentence}" for sentence in self.not_checked]
        return [*lines, self.verdict()]

    def summary(self) -> list[str]:
        """A line a level, failures in full, what was not checked, then the verdict."""
        lines = [line for level in self.levels for line in level.summary()]
        lines += [f"NOT CHECKED {sentence}" for sentence in self.not_checked]
        return [*lines, self.verdict()]

    def to_json(self, *, indent: int | None = 2) -> str:
        """The whole report as JSON text."""
        value = asdict(self) | {"passed": self.passed}
        for level in value["levels"]:
            level["passed"] = level["status"] == "pass"
        return json.dumps(_plain(value), indent=indent, ensure_ascii=False, default=str)


def _plain(value: Any) -> Any:
    """JSON has no infinities and no NaN: as words, they stay readable."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value
