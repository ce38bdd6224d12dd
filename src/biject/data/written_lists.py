"""Lists that a CSV file holds as text: JSON's, Python's (as pandas writes them) and NumPy's."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

_ITEM = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[+-]?\d{1,18}(?![\w.])""", re.DOTALL)
_BETWEEN = re.compile(r"\s*,\s*|\s+")  # NumPy writes spaces


def is_written(text: str) -> bool:
    """Whether a text looks like a list."""
    text = text.strip()
    return text.startswith("[") and text.endswith("]")


def read_written(text: str) -> list[Any] | None:
    """What the list has: texts and whole numbers, or whatever JSON has; None where it is no list."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return _literals(text.strip()[1:-1].strip())
    return found if isinstance(found, list) else None


def _literals(inner: str) -> list[Any] | None:
    """Texts in quotes and whole numbers, one by one: two texts side by side are not one, as in Python."""
    found: list[Any] = []
    place = 0
    while place < len(inner):
        item = _ITEM.match(inner, place)
        if item is None:
            return None
        try:
            found.append(ast.literal_eval(item[0].lstrip("+")))
        except (ValueError, SyntaxError):  # half an escape
            return None
        between = _BETWEEN.match(inner, item.end())
        if between is None and item.end() < len(inner):
            return None
        place = len(inner) if between is None else between.end()
    return found
