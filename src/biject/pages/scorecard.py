"""The page of a scorecard: three tables in one file that needs no network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from biject.pages.render import whole


def render_scorecard(card: Mapping[str, Any]) -> str:
    """The page of what `Scorecard.to_json` gives."""
    first, *others = card["contestants"]
    cycles = card["cycles"]
    parts = [
        "<h1>Scorecard</h1>",
        f'<p class="sub">{escape(first)} against {escape(", ".join(others))}: {cycles} cycles, in turns, '
        "each run in a process of its own. A cycle has one seed for all.</p>",
        *(
            f"<p>{_chip(one)} {escape(one['name'])}: {escape(one['reason'])}.</p>"
            for one in card["comparisons"]
        ),
        "<h2>Contestants</h2>",
        _table(
            ("contestant", f"{card['metric']}, mean ± deviation", "seconds, median", "peak, median"),
            (_summary(name, card["summary"][name]) for name in card["contestants"]),
        ),
        f"<h2>Beside {escape(first)}</h2>",
        _table(
            ("contestant", "quality gained ± standard error", "times as fast", "its memory in theirs"),
            (_beside(one) for one in card["comparisons"]),
        ),
        "<h2>Runs</h2>",
        _table(("cycle", "contestant", card["metric"], "seconds", "peak"), map(_trial, card["trials"])),
        f'<h2>The rule</h2><p class="note">{escape(card["rule"])}</p>',
    ]
    return whole("Scorecard", "\n".join(parts))


def _chip(one: Mapping[str, Any]) -> str:
    word, kind = ("PROMOTED", "good") if one["promoted"] else ("HELD", "wait")
    return f'<span class="chip {kind}">{word}</span>'


def _summary(name: str, own: Mapping[str, Any]) -> Sequence[str]:
    quality, seconds, peak = own["quality"], own["seconds"], own["peak_bytes"]
    return (
        name,
        f"{quality['mean']:.4f} ± {quality['deviation']:.4f}",
        f"{seconds['median']:.1f} (± {seconds['deviation']:.1f})",
        f"{peak['median'] / 1e6:,.0f} MB",
    )


def _beside(one: Mapping[str, Any]) -> Sequence[str]:
    return (
        one["name"],
        f"{one['difference']:+.4f} ± {one['standard_error']:.4f}",
        f"{one['time_ratio']:.2f}",
        f"{one['memory_ratio']:.2f}",
    )


def _trial(one: Mapping[str, Any]) -> Sequence[str]:
    return (
        str(one["cycle"] + 1),
        one["contestant"],
        f"{one['quality']:.4f}",
        f"{one['seconds']:.1f}",
        f"{one['peak_bytes'] / 1e6:,.0f} MB",
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def line(kind: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{kind}>{escape(cell)}</{kind}>" for cell in cells) + "</tr>"

    body = "".join(line("td", row) for row in rows)
    return f'<div class="scroll"><table>{line("th", header)}{body}</table></div>'
