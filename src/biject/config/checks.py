"""Checks for `Key` rows: each returns what was expected if a value does not fit, else None."""

from __future__ import annotations

import sys
from typing import Any

from biject.config.activations import ACTIVATIONS, PARAMETRIC
from biject.config.table import Check

_MAX_FLOAT = sys.float_info.max


MAX_INTEGER = 2**31 - 1
"""No size is larger; the product of two fits in the 64 bits that torch counts with."""


def integer(minimum: int | None = None, *, none: bool = False) -> Check:
    """A whole number, at least `minimum`, of 32 bits."""

    def check(value: Any) -> str | None:
        if value is None and none:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or (minimum is not None and value < minimum):
            return "a whole number" + (f" of at least {minimum}" if minimum is not None else "")
        if abs(value) > MAX_INTEGER:
            return f"a whole number of at most {MAX_INTEGER}"
        return None

    return check


def number(minimum: float | None = None, maximum: float | None = None, *, none: bool = False) -> Check:
    """A finite number within bounds."""

    def check(value: Any) -> str | None:
        if value is None and none:
            return None
        fits = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _MAX_FLOAT
        if not fits or (minimum is not None and value < minimum) or (maximum is not None and value > maximum):
            return f"a number from {minimum} to {maximum}" if maximum is not None else f"a number ≥ {minimum}"
        return None

    return check


def limit(value: Any) -> str | None:
    """A number that is divided by, or null."""
    return number(0.0, none=True)(value) or ("a number above 0, or null" if value == 0 else None)


def boolean(value: Any) -> str | None:
    """True or false."""
    return None if isinstance(value, bool) else "true or false"


def flag(value: Any) -> str | None:
    """true, false or null (null means false)."""
    return None if value is None or isinstance(value, bool) else "true or false"


def probability(*, none: bool = False) -> Check:
    """A dropout rate."""
    return number(0.0, 1.0, none=none)


def activation(value: Any) -> str | None:
    """The name of an activation without weights."""
    if isinstance(value, str) and value in ACTIVATIONS:
        return None
    if isinstance(value, str) and value in PARAMETRIC:
        return f"an activation without weights of its own ({value} has some, which Biject does not compute)"
    return "one of " + ", ".join(sorted(ACTIVATIONS))


def choice(*allowed: Any) -> Check:
    """One of a few values."""

    def check(value: Any) -> str | None:
        return None if value in allowed else "one of " + ", ".join(map(repr, allowed))

    return check


def strings(value: Any) -> str | None:
    """null, a string or a list of strings."""
    listed = isinstance(value, list | tuple) and all(isinstance(v, str) for v in value)
    return (
        None if value is None or isinstance(value, str) or listed else "null, a string or a list of strings"
    )


def text(value: Any) -> str | None:
    """A string."""
    return None if isinstance(value, str) else "a string"


def anything(value: Any) -> str | None:
    """No check."""
    return None


def labels(value: Any) -> str | None:
    """`id2label`: null or an object whose keys are 0 … n-1."""
    if value is None:
        return None
    expected = "an object with the keys 0 to n-1"
    if not isinstance(value, dict) or not value:
        return expected
    try:
        return None if sorted(int(k) for k in value) == list(range(len(value))) else expected
    except (TypeError, ValueError):
        return expected
