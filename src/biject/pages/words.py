"""Numbers as people write them, and texts that cannot disturb a page."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, those that turn the direction of the text around them, halves of surrogate pairs."""
_LONGEST = 4000
_LARGEST, _LEAST = 1e150, 1e-150
"""Beyond these a product of two numbers, or a quotient, may be none."""
_LEAST_PLAIN = 1e-4
"""Smaller numbers are learning rates and the like, which nobody writes with their zeros. `page.js` has it."""


_KNOWN = {"f1": "F1", "mse": "MSE", "ndcg": "nDCG", "mrr": "MRR", "map": "MAP", "logps": "Log-probability,"}
"""Measures that are not written as other words are."""


def clean(value: object) -> str:
    """A text without control characters, not endless."""
    text = _UNSAFE.sub("�", str(value))
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def number(value: Any) -> float | None:
    """A number that can be computed with, else None: a folder's files may hold anything.

    What is smaller than 1e-150 is 0, what is larger than 1e150 is no number.
    """
    plain = type(value) is float  # most are; a long run has millions
    if not plain and (isinstance(value, bool) or not isinstance(value, int | float)):
        return None
    if not -_LARGEST <= value <= _LARGEST:  # NaN, too
        return None
    return float(value) if value >= _LEAST or value <= -_LEAST else 0.0


def decimal(value: Any, digits: int = 4) -> str:
    """`0.8123`, `12.35`, `1,234`, `0.0005`, `5e-5`, `2.5e-9`; an em dash for what is no number."""
    found = number(value)
    if found is None:
        return "—"
    if float(found).is_integer() and abs(found) < 1e15:
        return f"{found:,.0f}"
    size = abs(found)
    if size >= 1e15 or size < _LEAST_PLAIN:
        mantissa, exponent = f"{found:.2e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    if size >= 1000:
        return f"{found:,.0f}"
    places = digits if size < 1 else max(0, digits - len(str(int(size))))
    if size < 0.01:
        places = -math.floor(math.log10(size)) + 2
        return f"{found:.{places}f}".rstrip("0")
    return f"{found:.{places}f}"


def tick(value: float) -> str:
    """A number on an axis: `0.5`, not `0.5000`."""
    text = decimal(value)
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def compact(value: Any) -> str:
    """`950`, `12.3 k`, `4.51 M`, `7.24 B`."""
    found = number(value)
    if found is None:
        return "—"
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(found) >= size * (10 if size == 1e3 else 1):
            return f"{found / size:.3g} {unit}"
    return f"{found:,.0f}"


def column(values: Sequence[Any], digits: int = 4) -> list[str]:
    """Numbers below each other: all with the places of the largest, so that their points are in a line."""
    found = [number(value) for value in values]
    known = [abs(value) for value in found if value is not None]
    largest = max(known, default=0.0)
    whole = largest > 1 and all(value.is_integer() for value in known)
    if largest >= 1e15 or largest < 0.01:
        return [decimal(value) for value in values]
    places = 0 if whole else digits if largest <= 1 else max(0, digits - len(str(int(largest))))
    return ["—" if value is None else f"{value:,.{places}f}" for value in found]


def flops(value: Any) -> str:
    """Operations a second as `93.2 GFLOP/s`, `989 TFLOP/s`."""
    found = number(value)
    if not found:
        return ""
    return f"{found / 1e12:,.3g} TFLOP/s" if found >= 1e12 else f"{found / 1e9:.3g} GFLOP/s"


def percent(value: Any, digits: int = 1) -> str:
    """`0.8123` as `81.2 %`."""
    found = number(value)
    return "—" if found is None else f"{100 * found:.{digits}f} %"


def size(value: Any) -> str:
    """Bytes as `90.9 MB`."""
    found = number(value)
    if found is None:
        return "—"
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(found) < 1000:
            return f"{found:.0f} {unit}" if unit == "bytes" else f"{found:.3g} {unit}"
        found /= 1000
    return f"{found:.3g} TB"


def when(seconds: Any) -> str:
    """Seconds since 1970 as `2026-11-27 11:40:02`, in UTC; empty for what is no time."""
    found = number(seconds)
    if found is None or not 0 < found < 1 << 35:
        return ""
    return datetime.fromtimestamp(found, UTC).strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: Any) -> str:
    """`4.2 s`, `2 min 31 s`, `3 h 05 min`."""
    found = number(seconds)
    if found is None or found < 0:
        return "—"
    if found < 59.95:
        return f"{found:.1f} s" if found < 10 else f"{found:.0f} s"
    minutes, rest = divmod(round(found), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def metric_name(name: str) -> str:
    """`f1_macro` as `F1 macro`, `ndcg@10` as `nDCG@10`."""
    words = clean(name).replace("_", " ").strip().split(" ")
    parts = []
    for word in words:
        measure, at, depth = word.partition("@")
        parts.append(_KNOWN.get(measure, measure) + at + depth)
    text = " ".join(parts)
    return text if words[0].partition("@")[0] in _KNOWN else text[:1].upper() + text[1:]
