"""`report.html`: one file without scripts or links: loss curve, evaluations, proof, recipe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

_WIDTH, _HEIGHT, _MARGIN = 720, 240, 44
_MOST_POINTS = 720
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem}
body{color:#222;background:#fff}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
td,th{padding:.15rem .8rem .15rem 0;text-align:left;border-bottom:1px solid #ddd}
pre{white-space:pre-wrap;font-size:.85rem}svg{width:100%;height:auto}
.fail{color:#b00020}
"""


def render(
    title: str,
    events: Iterable[Mapping[str, Any]],
    *,
    best: str,
    proof: Sequence[str],
    changes: Sequence[str] = (),
) -> str:
    """The page of a run.

    Args:
        title: The run's name.
        events: The lines of `events.jsonl`; steps that a resumed run did again count once.
        best: Which state the model has.
        proof: The verifier's lines.
        changes: What changed in the model folder.
    """
    steps, evaluations, recipe = _sorted(events)
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>The model is from {escape(best)}.</p>",
        "<h2>Loss</h2>",
        curve([(step["step"], step["loss"]) for step in steps], _points(evaluations)),
        "<h2>Evaluations</h2>",
        _table(evaluations) if evaluations else "<p>None.</p>",
        "<h2>Proof</h2>",
        _lines(proof) if proof else "<p>Not checked: transformers is not installed.</p>",
        "<h2>Changes against the source</h2>",
        _lines(changes),
        "<h2>Recipe</h2>",
        _recipe(recipe),
    ]
    body = "\n".join(parts)
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'


def _sorted(
    events: Iterable[Mapping[str, Any]],
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]], Mapping[str, Any]]:
    """Steps, evaluations and recipe; of a step that was done twice the last time counts."""
    steps: dict[int, Mapping[str, Any]] = {}
    evaluations: dict[int, Mapping[str, Any]] = {}
    recipe: Mapping[str, Any] = {}
    for event in events:
        kind = event.get("event")
        if kind == "step":
            steps[event["step"]] = event
        elif kind == "evaluation":
            evaluations[event["step"]] = event
        elif kind in ("start", "resume"):
            recipe = event.get("recipe", recipe)
    return [steps[k] for k in sorted(steps)], [evaluations[k] for k in sorted(evaluations)], recipe


def _points(evaluations: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    return [(found["step"], found["loss"]) for found in evaluations]


def curve(training: Sequence[tuple[float, float]], evaluation: Sequence[tuple[float, float]] = ()) -> str:
    """Training loss as a line, evaluation loss as dots, with the extremes written on the axes."""
    if not training:
        return "<p>No steps.</p>"
    every = -(-len(training) // _MOST_POINTS)
    shown = [*training[::every]]
    if shown[-1] != training[-1]:
        shown.append(training[-1])
    both = [*shown, *evaluation]
    last = max(x for x, _ in both)
    low, high = min(y for _, y in both), max(y for _, y in both)
    span = high - low or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        across = _MARGIN + (_WIDTH - 2 * _MARGIN) * x / max(last, 1)
        return across, _MARGIN / 2 + (_HEIGHT - 1.5 * _MARGIN) * (high - y) / span

    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in shown))
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="#c2410c"/>'
        for x, y in (place(*p) for p in evaluation)
    )
    bottom = _HEIGHT - _MARGIN
    labels = (
        f'<text x="2" y="{_MARGIN / 2 + 4}">{high:.3g}</text><text x="2" y="{bottom + 4}">{low:.3g}</text>'
        f'<text x="{_MARGIN}" y="{_HEIGHT - 22}">0</text>'
        f'<text x="{_WIDTH - _MARGIN}" y="{_HEIGHT - 22}" text-anchor="end">step {last:g}</text>'
        f'<text x="{_MARGIN}" y="{_HEIGHT - 4}" fill="#1d4ed8">training (line)</text>'
        f'<text x="{_MARGIN + 110}" y="{_HEIGHT - 4}" fill="#c2410c">evaluation (dots)</text>'
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="loss by step" font-size="12">'
        f'<path d="M{_MARGIN} {_MARGIN / 2}V{bottom}H{_WIDTH - _MARGIN}" fill="none" stroke="#999"/>'
        f'<polyline points="{line}" fill="none" stroke="#1d4ed8" stroke-width="1.5"/>{dots}{labels}</svg>'
    )


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    names = [name for name in rows[0] if name not in ("event", "time", "seconds")]
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(
        "<tr>" + "".join(f"<td>{_number(row.get(name))}</td>" for name in names) + "</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else escape(str(value))


def _lines(lines: Sequence[str]) -> str:
    marked = [
        f'<span class="fail">{escape(line)}</span>'
        if line.startswith(("FAIL", "VERDICT FAIL"))
        else escape(line)
        for line in lines
    ]
    return f"<pre>{chr(10).join(marked) or 'nothing'}</pre>"


def _recipe(recipe: Mapping[str, Any]) -> str:
    flat = {key: value for key, value in recipe.items() if key != "train"}
    flat |= {f"train.{key}": value for key, value in recipe.get("train", {}).items()}
    rows = "".join(f"<tr><td>{escape(k)}</td><td>{escape(str(v))}</td></tr>" for k, v in flat.items())
    return f"<table>{rows}</table>"
