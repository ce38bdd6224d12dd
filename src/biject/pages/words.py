"""Numbers as people write them, and texts that cannot disturb a page."""

from __future__ import annotations

import math
import re
from typing import Any

_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters, and those that turn the direction of the text around them."""
_LONGEST = 4000


def clean(value: object) -> str:
    """A text without control characters, not endless."""
    text = _UNSAFE.sub("�", str(value))
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def number(value: Any) -> float | None:
    """A finite number, else None: a folder's files may hold anything."""
    if type(value) is float:  # most are; a long run has millions
        return value if math.isfinite(value) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def decimal(value: Any, digits: int = 4) -> str:
    """`0.8123`, `12.35`, `1,234`, `5e-05` as `0.00005`, `2.5e-9`; an em dash for what is no number."""
    found = number(value)
    if found is None:
        return "—"
    if float(found).is_integer() and abs(found) < 1e15:
        return f"{found:,.0f}"
    size = abs(found)
    if size >= 1e15 or size < 1e-6:
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
    """`f1_macro` as `F1 macro`."""
    words = clean(name).replace("_", " ").strip()
    known = {"f1": "F1", "mse": "MSE"}
    parts = [known.get(word, word) for word in words.split(" ")]
    text = " ".join(parts)
    return text[:1].upper() + text[1:]
