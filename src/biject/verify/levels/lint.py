"""Level `lint`: what a folder shows without the one it was made from."""

from __future__ import annotations

from collections.abc import Sequence

from biject.verify.lint import RULES, lint
from biject.verify.report import Check, Finding
from biject.verify.subject import Subject


def lint_(subject: Subject) -> list[Check]:
    """One check a finding: errors fail, warnings pass and are shown."""
    findings = lint(subject.export)
    if findings:
        return checks_of(findings)
    detail = f"none ({len(RULES)} groups of rules, {len(subject.export.tensors)} tensors)"
    return [Check(name="findings", passed=True, detail=detail)]


def checks_of(findings: Sequence[Finding]) -> list[Check]:
    """Findings as checks."""
    return [
        Check(
            name=finding.code,
            passed=finding.severity != "error",
            detail=f"{finding.where}: {finding.meaning}. What to do: {finding.advice}",
            finding=finding,
        )
        for finding in findings
    ]
