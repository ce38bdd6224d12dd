"""What a call of a task may be given: one text or pair, or a list of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from biject.checkpoint.strict_json import is_encodable
from biject.errors import InputError


def require(condition: bool, message: str) -> None:
    """Raise `InputError` with `message` unless `condition` holds."""
    if not condition:
        raise InputError(message)


def is_one(inputs: object) -> bool:
    """Whether a call was given one text (or pair) rather than a list of them."""
    return isinstance(inputs, str | tuple | Mapping)


def as_texts(inputs: Any, task: str) -> list[str]:
    """The texts of a call.

    Raises:
        InputError: one is no text.
    """
    items = [inputs] if is_one(inputs) else list(inputs)
    for place, item in enumerate(items):
        require(
            isinstance(item, str),
            f"{task} takes texts; text {place + 1} is {_described(item)}.",
        )
        _check_characters(item, place)
    return items


def as_pairs(
    inputs: Any, task: str, keys: tuple[str, str], *, needed: bool
) -> tuple[list[str], list[str | None]]:
    """First and second texts of a call's items: texts, tuples of two, or mappings with `keys`.

    Raises:
        InputError: an item is none of these, or its second text is `needed` and missing.
    """
    firsts: list[str] = []
    seconds: list[str | None] = []
    for place, item in enumerate([inputs] if is_one(inputs) else list(inputs)):
        values: tuple[Any, ...] = ()
        if isinstance(item, str):
            values = (item, None)
        elif isinstance(item, tuple) and len(item) == 2:
            values = item
        elif isinstance(item, Mapping) and set(item) <= set(keys) and keys[0] in item:
            values = (item[keys[0]], item.get(keys[1]))
        good = values and isinstance(values[0], str) and isinstance(values[1], str if needed else str | None)
        require(
            bool(good),
            f"{task} takes {'' if needed else 'texts or '}pairs `{keys[0]}`, `{keys[1]}`; "
            f"item {place + 1} is {_described(item)}.",
        )
        for value in values:
            _check_characters(value or "", place)
        firsts.append(values[0])
        seconds.append(values[1])
    return firsts, seconds


def _check_characters(text: str, place: int) -> None:
    require(
        is_encodable(text),
        f"text {place + 1} contains half a character (a lone surrogate); give valid Unicode.",
    )


def _described(item: object) -> str:
    text = repr(item)
    return f"{type(item).__name__} {text if len(text) <= 60 else text[:57] + '…'}"
