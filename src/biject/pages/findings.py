"""`insights.json` for the template: confusions, labels, calibration, and the most surprising samples."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from biject.config.tasks import PREFERENCES
from biject.pages.chart import Chart, make_chart
from biject.pages.series import Series
from biject.pages.words import decimal, number, percent

_MOST_LABELS, _MOST_EXAMPLES, _MOST_TOKENS = 60, 12, 400
_PICTURE = re.compile(r"data:image/(png|jpeg);base64,[A-Za-z0-9+/]{1,60000}={0,2}")
_SCORES = {"embed": "cosine similarity", "rerank": "score"}
"""What the points of a scatter are, where they are no predictions of a number."""
_SURPRISE = (0.7, 0.8, 0.88, 0.94, 0.98)
"""Tokens above these quantiles of all losses that are shown are coloured, more and more strongly."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Of the matrix of confusions: a count, its share of its row in five steps, and whether it is right."""

    count: str
    level: int
    right: bool


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What the page shows of the held-out samples; fields are empty where there is nothing."""

    seen: str = ""
    chosen: str = ""
    baseline: str = ""
    labels: tuple[str, ...] = ()
    confusion: tuple[tuple[Cell, ...], ...] = ()
    per_label: tuple[tuple[str, str, str, str, str], ...] = ()
    calibration: Chart | None = None
    calibration_error: str = ""
    calibration_counts: str = ""
    scatter: Chart | None = None
    texts: tuple[Mapping[str, str], ...] = ()
    tagged: tuple[Mapping[str, Any], ...] = ()
    answers: tuple[Mapping[str, Any], ...] = ()
    tokens: tuple[Mapping[str, Any], ...] = ()
    pairs: tuple[Mapping[str, str], ...] = ()


def findings(insights: Mapping[str, Any]) -> Findings:
    """Everything that is there and is what it should be."""
    examples = [one for one in _list(insights.get("examples")) if isinstance(one, dict)][:_MOST_EXAMPLES]
    task = insights.get("task")
    labels = tuple(str(name) for name in _list(insights.get("labels")))
    return Findings(
        seen=_seen(insights),
        chosen=_chosen(task, examples),
        baseline=_baseline(task, labels, insights.get("confusion")),
        labels=labels,
        confusion=_confusion(insights.get("confusion"), len(labels)),
        per_label=_per_label(insights.get("per_label")),
        calibration=_calibration(insights.get("calibration")),
        calibration_error=_error(insights.get("calibration")),
        calibration_counts=_counts(insights.get("calibration")),
        scatter=_scatter(insights.get("points"), _SCORES.get(str(task), "prediction")),
        texts=tuple(_text(one) for one in examples) if task in ("seqcls", "imgcls") else (),
        tagged=tuple(_tagged(one) for one in examples) if task == "tokcls" else (),
        answers=tuple(_answer(one) for one in examples) if task == "qa" else (),
        tokens=tuple(_tokens(one, _levels(examples)) for one in examples)
        if task in ("causal", "mlm")
        else (),
        pairs=tuple(_pair(one) for one in examples) if task in PREFERENCES else (),
    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _seen(insights: Mapping[str, Any]) -> str:
    count, of = number(insights.get("num_samples")), number(insights.get("of"))
    if not count or not of:
        return ""
    seen = f"{count:,.0f} held-out samples" if count == of else f"{count:,.0f} of {of:,.0f} held-out samples"
    known = insights.get("intervals")
    sure = known.get("accuracy") if isinstance(known, dict) else None
    right = number(sure.get("value")) if isinstance(sure, dict) else None
    return seen if right is None or not 0 <= right <= 1 else f"{seen}, {round((1 - right) * count):,} wrong"


def _baseline(task: Any, labels: Sequence[str], confusion: Any) -> str:
    """What one is right in without having learned anything."""
    if task in PREFERENCES:
        return "A coin is right in 50 %."
    rows = [[number(cell) or 0.0 for cell in _list(row)] for row in _list(confusion)]
    counts = [sum(row) for row in rows]
    if not labels or len(counts) != len(labels) or not sum(counts) > 0:
        return ""
    most = max(counts)
    return f"Always “{labels[counts.index(most)]}” is right in {percent(most / sum(counts))}."


def _chosen(task: Any, examples: Sequence[Mapping[str, Any]]) -> str:
    """By what the samples that are shown were chosen."""
    if task == "qa":
        wrong = any(number(one.get("f1")) != 1 for one in examples)
        return "wrong answers, the surest first" if wrong else "all answered right: three of them"
    if task in PREFERENCES:
        return "those with the smallest margin between the chosen text's reward and the rejected one's"
    if task in ("causal", "mlm"):
        return "those with the largest mean loss; the least likely tokens are coloured"
    if task == "tokcls" and examples and all(_all_right(one) for one in examples):
        return "all that are shown are right"
    return "those with the largest loss"


def _all_right(one: Mapping[str, Any]) -> bool:
    """Every token that has a label is labelled so."""
    tokens = [token for token in _list(one.get("tokens")) if isinstance(token, list) and len(token) == 3]
    return all(truth == guess for _, truth, guess in tokens if truth)


def _confusion(value: Any, size: int) -> tuple[tuple[Cell, ...], ...]:
    rows = [[number(cell) for cell in _list(row)] for row in _list(value)]
    if not 0 < size <= _MOST_LABELS or len(rows) != size or any(len(r) != size or None in r for r in rows):
        return ()
    found = []
    for place, row in enumerate(rows):
        total = sum(cell or 0 for cell in row) or 1
        found.append(
            tuple(
                Cell(count=decimal(cell), level=_level((cell or 0) / total), right=place == column)
                for column, cell in enumerate(row)
            )
        )
    return tuple(found)


def _level(share: float) -> int:
    return 0 if share <= 0 else 1 + int(min(share, 0.99) * 5)


def _per_label(value: Any) -> tuple[tuple[str, str, str, str, str], ...]:
    rows = [row for row in _list(value) if isinstance(row, dict)]
    rows.sort(key=lambda row: -(number(row.get("support")) or 0))
    return tuple(
        (
            str(row.get("label", "")),
            percent(row.get("precision")),
            percent(row.get("recall")),
            percent(row.get("f1")),
            decimal(row.get("support")),
        )
        for row in rows[:_MOST_LABELS]
    )


def _calibration(value: Any) -> Chart | None:
    bins = _list(value.get("bins")) if isinstance(value, dict) else []
    points = []
    for one in bins:
        x, y = (
            (number(one.get(name)) for name in ("confidence", "accuracy"))
            if isinstance(one, dict)
            else (None, None)
        )
        if x is not None and y is not None:
            points.append((100 * x, 100 * y))
    if len(points) < 2:
        return None
    low = min(x for x, _ in points)
    perfect = Series(name="perfectly calibrated", points=((low, low), (100.0, 100.0)), kind="faint", color=2)
    own = tuple(sorted(points))
    return make_chart(
        "Right, in % of the predictions that are so sure",
        [perfect, Series(name="this model", points=own), Series(name="this model", points=own, kind="dots")],
        x_name="confidence in %",
        low=0.0,
        high=100.0,
    )


def _error(value: Any) -> str:
    return (
        percent(value.get("ece")) if isinstance(value, dict) and number(value.get("ece")) is not None else ""
    )


def _counts(value: Any) -> str:
    """How many samples each point of the curve stands for."""
    bins = _list(value.get("bins")) if isinstance(value, dict) else []
    counts = [number(one.get("count")) for one in bins if isinstance(one, dict)]
    known = [count for count in counts if count is not None]
    return (
        f"Predictions behind each point, from left to right: {', '.join(map(decimal, known))}."
        if known
        else ""
    )


def _scatter(value: Any, name: str) -> Chart | None:
    pairs = [[number(part) for part in _list(pair)] for pair in _list(value)]
    points = sorted(
        (x, y) for x, y in (pair for pair in pairs if len(pair) == 2) if x is not None and y is not None
    )
    if not points:
        return None
    series = Series(name=name, points=tuple(points), kind="dots")
    return make_chart(f"{name.capitalize()} by truth", [series], x_name="truth")


def _text(one: Mapping[str, Any]) -> Mapping[str, str]:
    sure = number(one.get("score"))
    return {
        "text": str(one.get("text", "")),
        "picture": _picture(one.get("picture")),
        "label": str(one.get("label", "")),
        "prediction": str(one.get("prediction", "")),
        "score": "" if sure is None else percent(sure),
        "wrong": "yes" if one.get("label") != one.get("prediction") else "",
    }


def _picture(value: Any) -> str:
    """A small picture's `data:` address; anything else, from whatever file, is left out."""
    return value if isinstance(value, str) and _PICTURE.fullmatch(value) else ""


def _pair(one: Mapping[str, Any]) -> Mapping[str, str]:
    apart = number(one.get("margin"))
    texts = {name: str(one.get(name, "")) for name in ("prompt", "chosen", "rejected")}
    wrong = "" if apart is None or apart > 0 else "yes"
    prefers = "" if apart is None else f"prefers the {'rejected' if wrong else 'chosen'} text"
    return {**texts, "margin": "" if apart is None else f"{apart:.3g}", "prefers": prefers, "wrong": wrong}


def _tagged(one: Mapping[str, Any]) -> Mapping[str, Any]:
    """Neighbours with one truth and one prediction are one piece; unlabelled tokens go with the last."""
    pieces: list[tuple[str, str, str, bool]] = []
    for token in _list(one.get("tokens"))[:_MOST_TOKENS]:
        if not isinstance(token, list) or len(token) != 3:
            continue
        text, truth, guess = (str(part) for part in token)
        found = (_kind(truth), _kind(guess), truth == guess)
        begins = truth.startswith("B-") or guess.startswith("B-")
        if pieces and (not truth or (pieces[-1][1:] == found and not begins)):
            pieces[-1] = (pieces[-1][0] + text, *pieces[-1][1:])
        else:
            pieces.append((text, *found))
    marked: list[tuple[str, str, str, str]] = []
    for text, truth, guess, same in pieces:
        how = "" if not truth and not guess else "right" if same else "wrong"
        inner = text.lstrip() if how or not marked else text
        space = text[: len(text) - len(inner)] if marked else ""
        marked.append((space, inner, how, _said(truth, guess, same=same)))
    return {"pieces": marked}


def _said(truth: str, guess: str, *, same: bool) -> str:
    """A piece's truth, and what was found in its place."""
    if same:
        return truth
    if truth == guess:
        return f"{truth}, found to begin or end elsewhere"
    return f"{truth or 'nothing'}, found {guess or 'nothing'}"


def _kind(label: str) -> str:
    return "" if label == "O" else label[2:] if label[1:2] == "-" else label


def _answer(one: Mapping[str, Any]) -> Mapping[str, Any]:
    pieces = [
        (str(piece[0]), str(piece[1]) if piece[1] in ("truth", "prediction", "both", "gap") else "")
        for piece in _list(one.get("pieces"))
        if isinstance(piece, list) and len(piece) == 2
    ]
    return {
        "question": str(one.get("question", "")),
        "pieces": pieces,
        "before": one.get("before") is True,
        "after": one.get("after") is True,
        "answers": [str(text) for text in _list(one.get("answers"))] or ["no answer"],
        "prediction": str(one.get("prediction") or "no answer"),
        "score": percent(one.get("score")),
        "right": number(one.get("f1")) == 1,
    }


def _levels(examples: Sequence[Mapping[str, Any]]) -> list[float]:
    """From which losses on tokens are coloured, and how strongly: by their place among all that are shown."""
    losses = sorted(
        lost
        for one in examples
        for token in _list(one.get("tokens"))[:_MOST_TOKENS]
        if isinstance(token, list) and len(token) == 3 and (lost := number(token[1])) is not None
    )
    return [losses[int(share * (len(losses) - 1))] for share in _SURPRISE] if losses else []


def _tokens(one: Mapping[str, Any], levels: Sequence[float]) -> Mapping[str, Any]:
    tokens, worst = [], []
    for token in _list(one.get("tokens"))[:_MOST_TOKENS]:
        if not isinstance(token, list) or len(token) != 3:
            continue
        text, lost, expected = str(token[0]), number(token[1]), str(token[2])
        level = 0 if lost is None else sum(lost >= least for least in levels)
        tokens.append((text, level))
        if lost is not None and text.strip():
            worst.append((lost, text.strip(), expected.strip()))
    worst.sort(key=lambda entry: -entry[0])
    return {
        "tokens": tokens,
        "loss": decimal(one.get("loss")),
        "worst": [(text, f"{lost:.1f}", expected) for lost, text, expected in worst[:5]],
    }
