"""All rules of the linter, in the order of a report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from biject.checkpoint.source import Source
from biject.errors import ConfigError
from biject.verify.lint import config, generation, names, tokenizer, values
from biject.verify.lint.facts import Facts, error, gather
from biject.verify.lint.index import index_entries
from biject.verify.report import Finding

Rule = Callable[[Facts], list[Finding]]

RULES: tuple[Rule, ...] = (
    names.loadable,
    names.wrapper_prefixes,
    names.adapter_keys,
    names.unknown_tensors,
    names.twins,
    config.architectures,
    config.dtypes,
    config.legacy,
    config.vocabulary,
    config.labels,
    tokenizer.tokenizer,
    generation.generation,
    generation.chat_templates,
    values.numbers,
    values.untrained,
)


def lint(source: Source) -> list[Finding]:
    """Everything that is wrong with a folder that could be opened, errors first."""
    facts = gather(source)
    found = [finding for rule in RULES for finding in rule(facts)]
    return sorted(found, key=lambda finding: finding.severity != "error")


def claims_finding(problem: ConfigError) -> Finding:
    """That config.json claims more than the file holds, so that nothing was built."""
    advice = "fetch config.json and the weights of one checkpoint"
    return error("config-too-large", "config.json", str(problem).rstrip("."), advice)


def lint_unreadable(folder: Path) -> list[Finding]:
    """Findings in a folder that could not be opened; empty where the error of opening it is enough."""
    return index_entries(folder)
