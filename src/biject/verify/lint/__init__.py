"""The linter: what is wrong with a checkpoint folder that shows without the one it was made from."""

from __future__ import annotations

from biject.verify.lint.facts import Facts, gather
from biject.verify.lint.rules import RULES, claims_finding, lint, lint_unreadable

__all__ = ["RULES", "Facts", "claims_finding", "gather", "lint", "lint_unreadable"]
