"""JSON from a file nobody vouches for: no duplicate keys, no NaN, bounded size, one kind of error."""

from __future__ import annotations

import json
import math
import re
import reprlib
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from biject.errors import CheckpointError

MAX_JSON_BYTES = 100_000_000
"""The limit that the safetensors library sets for a header; generous for config.json and an index as well."""
SMALL_BYTES = 1_000_000
MIN_BYTES_PER_BRACKET = 12
"""A tensor's entry has three brackets in 50 bytes or more; denser text is built to exhaust memory."""
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)


def parse_object(data: bytes, *, where: str) -> dict[str, Any]:
    """Parse `data` as one JSON object.

    Args:
        data: The text as it lies in the file.
        where: How the message names it, e.g. ``the header of model.safetensors``.

    Raises:
        CheckpointError: Not UTF-8, not JSON, not an object, a key twice in one object, NaN or an infinity, a
            lone surrogate in a key, nesting or a number beyond reason.
    """

    def fail(what: str) -> NoReturn:
        raise CheckpointError(
            f"{where} must be one JSON object in UTF-8, but {what}. The file is damaged or not what its name "
            "says: fetch it again or write it anew."
        )

    if len(data) > SMALL_BYTES:
        structure = _STRING.sub(b"", data)
        if (structure.count(b"[") + structure.count(b"{")) * MIN_BYTES_PER_BRACKET > len(data):
            fail("it consists of brackets")
    try:
        parsed = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique_keys(fail),
            parse_constant=lambda text: fail(f"it has {text}, which JSON does not have"),
            parse_float=_finite(fail),
        )
    except UnicodeDecodeError as error:
        fail(f"byte {error.start} is not UTF-8")
    except json.JSONDecodeError as error:
        fail(f"it is not JSON: {error}")
    except RecursionError:
        fail("it is nested too deeply")
    except ValueError as error:  # an integer of more than 4300 digits
        fail(f"it has a number out of range: {error}")
    if not isinstance(parsed, dict):
        fail(f"it is a {type(parsed).__name__}")
    return parsed


def _unique_keys(fail: Callable[[str], NoReturn]) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        built = dict(pairs)
        if len(built) != len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            fail(f"the key {shown(twice)} stands twice in one object")
        for key in built:
            if not key.isascii() and not is_encodable(key):
                fail(f"the key {shown(key)} has a lone surrogate, which no UTF-8 text can hold")
        return built

    return build


def _finite(fail: Callable[[str], NoReturn]) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            fail(f"the number {shown(text)} is too large for a float")
        return value

    return parse


def is_encodable(text: str) -> bool:
    """Whether `text` can be written as UTF-8 (a lone surrogate cannot)."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def shown(value: object) -> str:
    """`value` for a message: its repr in printable ASCII, cut to a readable length."""
    text = ascii(value) if isinstance(value, str) else reprlib.repr(value)
    text = text.encode("ascii", "backslashreplace").decode()
    return text if len(text) <= 120 else f"{text[:100]}… ({len(text)} characters)"


def regular_file_bytes(path: Path, *, what: str) -> int:
    """The size of a regular file (a link to one counts), without opening it, so that a pipe cannot block.

    Raises:
        CheckpointError: It is missing, not a regular file, or out of reach.
    """
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise CheckpointError(f"{what} is missing: expected {path}. Copy the whole folder again.") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{what} cannot be reached at {shown(str(path))}: {error}.") from error
    if not stat.S_ISREG(status.st_mode):
        raise CheckpointError(f"{what} must be a regular file, but {path} is not. Put the real file there.")
    return status.st_size


def read_small_file(path: Path, *, what: str) -> bytes:
    """The bytes of a JSON file of at most `MAX_JSON_BYTES`.

    Raises:
        CheckpointError: As `regular_file_bytes`, or too large, or unreadable.
    """
    num_bytes = regular_file_bytes(path, what=what)
    if num_bytes > MAX_JSON_BYTES:
        raise CheckpointError(
            f"{what} has {num_bytes} bytes, more than the {MAX_JSON_BYTES} that such a file may have "
            f"({path})."
        )
    try:
        with path.open("rb") as file:
            return file.read(MAX_JSON_BYTES)
    except OSError as error:
        raise CheckpointError(f"{what} cannot be read: {error}. Check its permissions.") from error
