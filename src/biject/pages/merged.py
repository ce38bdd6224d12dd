"""The receipt of a merge for the template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from biject.pages.words import decimal, number

_MOST_NOTES = 20


@dataclass(frozen=True, kw_only=True)
class Merge:
    """What a page shows of `merge_receipt.json`.

    Attributes:
        passed: The merged model is the adapter on its base, as far as was measured.
        what: What was computed, and in which numbers the merged model is.
        rows: (what was measured, value).
        notes: Problems, warnings, what was not checked.
    """

    passed: bool
    what: str
    rows: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def merge_of(receipt: Mapping[str, Any]) -> Merge | None:
    """None where the run merged nothing, or the file is no receipt."""
    results = receipt.get("results")
    found = results.get(str(receipt.get("target"))) if isinstance(results, dict) else None
    if not isinstance(found, dict):
        return None
    rms, effect = number(found.get("rms")), number(found.get("effect"))
    flips, of = number(found.get("flips")), number(found.get("rows"))
    rows = [
        ("Largest difference", decimal(found.get("max_abs"))),
        ("Difference, root mean square", decimal(rms)),
        ("As a share of what the adapter changes", _share(rms, effect)),
        ("KL divergence, mean", decimal(found["kl"]) if number(found.get("kl")) is not None else ""),
        ("Other argmax", f"{flips:,.0f} of {of:,.0f}" if flips is not None and of else ""),
        ("Perplexity, adapter and merged", _pair(found.get("perplexity"))),
        ("Accuracy, adapter and merged", _pair(found.get("accuracy"))),
    ]
    notes = [
        f"{name}: {line}"
        for name, key in (("Problem", "problems"), ("Warning", "warnings"), ("Not checked", "not_checked"))
        for line in (receipt[key] if isinstance(receipt.get(key), list) else [])
        if isinstance(line, str)
    ]
    return Merge(
        passed=receipt.get("passed") is True,
        what=f"On {receipt.get('sample', 'some texts')}, written in {receipt.get('dtype', 'its dtype')}.",
        rows=tuple(row for row in rows if row[1]),
        notes=tuple(notes[:_MOST_NOTES]),
    )


def _share(part: float | None, whole: float | None) -> str:
    """In percent, with as many places as show anything of it."""
    return f"{decimal(100 * part / whole)} %" if part is not None and whole else ""


def _pair(value: Any) -> str:
    parts = [number(part) for part in value] if isinstance(value, list) else []
    return " and ".join(map(decimal, parts)) if len(parts) == 2 and None not in parts else ""
