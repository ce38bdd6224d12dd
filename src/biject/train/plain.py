"""State dicts as JSON and back: tuples and keys that are no strings survive, anything with code does not."""

from __future__ import annotations

from typing import Any

from biject.errors import CheckpointError

_TUPLE, _ITEMS = "!tuple", "!items"


def to_plain(value: Any, *, where: str) -> Any:
    """What JSON can represent.

    Raises:
        CheckpointError: an object that only pickle could write.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [to_plain(item, where=where) for item in value]
    if isinstance(value, tuple):
        return {_TUPLE: [to_plain(item, where=where) for item in value]}
    if isinstance(value, dict):
        if all(isinstance(key, str) and not key.startswith("!") for key in value):
            return {key: to_plain(item, where=f"{where}.{key}") for key, item in value.items()}
        return {
            _ITEMS: [[to_plain(k, where=where), to_plain(v, where=f"{where}.{k}")] for k, v in value.items()]
        }
    raise CheckpointError(
        f"{where} is a {type(value).__name__}, which a checkpoint cannot store without pickle; "
        "numbers, texts, lists, tuples and dicts of them it can."
    )


def from_plain(value: Any) -> Any:
    """The other way."""
    if isinstance(value, list):
        return [from_plain(item) for item in value]
    if isinstance(value, dict):
        if value.keys() == {_TUPLE}:
            return tuple(from_plain(item) for item in value[_TUPLE])
        if value.keys() == {_ITEMS}:
            return {from_plain(key): from_plain(item) for key, item in value[_ITEMS]}
        return {key: from_plain(item) for key, item in value.items()}
    return value
