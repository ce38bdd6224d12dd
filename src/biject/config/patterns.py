"""Regular expressions that somebody else wrote: only those are run that cannot take long.

Python's matcher goes back and forth, and `(a+)+b` takes years on forty letters. An expression is parsed, and
the ways in which it could split a name are counted from above; one with too many is refused unseen.
"""

from __future__ import annotations

import re
import re._constants as kinds  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
from collections.abc import Iterable
from typing import Any

from biject.errors import ConfigError, shown

NAME = 64
"""Characters that `.*` may be thought to end at: names of modules are that long at most."""
MOST = 4 * NAME**3
"""Ways to split a name: three `.*` beside a choice of four words; a name then takes milliseconds."""
MOST_CHARACTERS = 10_000


def check_pattern(pattern: str, *, what: str) -> None:
    """Refuse an expression that is none, or that could take long on a module's name.

    Raises:
        ConfigError: It says which and why.
    """
    try:
        if len(pattern) > MOST_CHARACTERS:
            raise _CostlyError(f"{len(pattern)} characters")
        ways = _ways(parser.parse(pattern))
    except _CostlyError as error:
        raise ConfigError(
            f"{what}: {shown(pattern)} has {error}, which can take forever to match: list the names instead."
        ) from error
    except (re.error, RecursionError, OverflowError) as error:
        raise ConfigError(f"{what}: {shown(pattern)} is no regular expression: {error}.") from error
    if ways > MOST:
        raise ConfigError(
            f"{what}: {shown(pattern)} can match in {ways:.2g} ways, which can take forever: use fewer "
            "`.*`, or list the names."
        )


class _CostlyError(Exception):
    """An expression has a construct whose time has no bound here."""


def _ways(items: Iterable[tuple[Any, Any]]) -> float:
    """Upper bound of the ways in which a sequence can match the beginning of a name."""
    total = 1.0
    for kind, value in items:
        total *= _ways_of(kind, value)
        if total > 1e30:
            raise _CostlyError("too many repeats")
    return total


def _ways_of(kind: Any, value: Any) -> float:
    if kind in (kinds.MAX_REPEAT, kinds.MIN_REPEAT, kinds.POSSESSIVE_REPEAT):
        low, high, body = int(value[0]), int(value[1]), value[2]
        single = len(body) == 1 and body[0][0] in (kinds.IN, kinds.LITERAL, kinds.NOT_LITERAL, kinds.ANY)
        if high == 1:
            return 1 + _ways(body)
        if low == high and high <= NAME and single:
            return 1
        if not single:
            raise _CostlyError("a repeat of more than one character")
        return min(float(high) - low + 1, 4.0 if _digits(body[0]) else NAME)
    if kind == kinds.BRANCH:
        return sum(_ways(option) for option in value[1])
    if kind == kinds.SUBPATTERN:
        return _ways(value[-1])
    if kind in (kinds.ASSERT, kinds.ASSERT_NOT):
        return _ways(value[1])
    if kind == kinds.ATOMIC_GROUP:
        return _ways(value)
    if kind in (kinds.GROUPREF, kinds.GROUPREF_EXISTS, kinds.GROUPREF_IGNORE):
        raise _CostlyError("a reference to a group")
    return 1


def _digits(item: tuple[Any, Any]) -> bool:
    """Whether one character is a digit: names have few in a row."""
    kind, value = item
    if kind != kinds.IN:
        return False
    digit = (kinds.CATEGORY, kinds.CATEGORY_DIGIT)
    span = kinds.RANGE
    return all(one == digit or (one[0] == span and 48 <= one[1][0] <= one[1][1] <= 57) for one in value)
