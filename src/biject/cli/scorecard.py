"""`biject scorecard`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from biject.cli.flags import Json
from biject.errors import InputError


def scorecard(
    *,
    recipe: Annotated[tuple[str, ...], Parameter(metavar="[peft:|full:]FILE")] = (),
    cycles: Annotated[int, Parameter(metavar="N")] = 2,
    out: Annotated[Path | None, Parameter(metavar="DIR")] = None,
    json: Json = False,
) -> int:
    """Compare recipes or back ends over several cycles: quality, seconds, memory, and a verdict by a rule.

    Each run is a process of its own; contestants take turns, and a cycle has one seed for all. A
    contestant is promoted over the first one where its quality is not worse (paired differences, one
    standard error), neither time nor memory is 5 % worse, and something is better; docs/scorecard.md has
    the rule. The exit code is 1 where none is promoted.

    Args:
        recipe: Given at least twice. `peft:` before a file runs it on transformers' model with PEFT's
            adapter, `full:` trains every parameter instead of an adapter.
        cycles: Runs of each, at least 2.
        out: A new folder for scorecard.json and scorecard.html.
    """
    if out is not None and out.exists():
        raise InputError(f"{out} exists already; --out needs a new folder.")

    from biject.cli.console import print_json, print_lines
    from biject.runs.scorecard import contestant
    from biject.runs.scorecard import scorecard as compare

    contestants = [contestant(one) for one in recipe]
    card = compare(
        contestants, cycles=cycles, log=(lambda line: None) if json else lambda s: print_lines([s])
    )
    found = card.to_json()
    if out is not None:
        import json as text

        from biject.pages.scorecard import render_scorecard

        out.mkdir(parents=True)
        (out / "scorecard.json").write_text(text.dumps(found, indent=2) + "\n", encoding="utf-8")
        (out / "scorecard.html").write_text(render_scorecard(found), encoding="utf-8")
    if json:
        print_json(found)
    else:
        print_lines(_lines(found))
    return 0 if card.promoted else 1


def _lines(card: dict[str, Any]) -> list[str]:
    """A line a contestant, then the verdicts."""
    lines = []
    for name in card["contestants"]:
        quality, seconds, peak = (
            card["summary"][name][what] for what in ("quality", "seconds", "peak_bytes")
        )
        lines.append(
            f"{name}: {card['metric']} {quality['mean']:.4f} ± {quality['deviation']:.4f}, "
            f"{seconds['median']:.1f} s ± {seconds['deviation']:.1f}, peak {peak['median'] / 1e6:.0f} MB"
        )
    for one in card["comparisons"]:
        word = "PROMOTED" if one["promoted"] else "HELD"
        lines.append(
            f"VERDICT {word} {one['name']}: {one['reason']} (quality {one['difference']:+.4f} ± "
            f"{one['standard_error']:.4f}, {one['time_ratio']:.2f} times as fast, the first's memory "
            f"{one['memory_ratio']:.2f} times its own)"
        )
    return lines
