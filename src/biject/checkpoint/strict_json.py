"""JSON from a file nobody vouches for: no duplicate keys, no NaN, bounded size, one kind of error."""

from __future__ import annotations

import gc
import json
import math
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from biject.errors import CheckpointError
from biject.errors import shown as shown

MAX_JSON_BYTES = 100_000_000
"""The limit that the safetensors library sets for a header; for tokenizer files as well."""
MAX_CONFIG_BYTES = 10_000_000
MAX_HEADER_BYTES = 10_000_000
MAX_INDEX_BYTES = 25_000_000
"""Tighter ones, so that the worst text costs about a second and 200 MB. A header has about 100 bytes a
tensor: 100,000 tensors fit in one file, and there may be many files.
"""
SMALL_BYTES = 1_000_000
MIN_BYTES_PER_BRACKET = 12
"""A tensor's entry has three brackets in 50 bytes or more; denser text is built to exhaust memory."""
MAX_DEPTH = 64
"""Real files have a tenth of it; readers of what was parsed may recurse."""
_NO_BRACKET_NOR_QUOTE = bytes(set(range(256)) - set(b'[]{}"'))


def parse_object(data: bytes, *, where: str) -> dict[str, Any]:
    """Parse `data` as one JSON object.

    Args:
        data: The text's bytes in the file.
        where: How the message names it, e.g. ``the header of model.safetensors``.

    Raises:
        CheckpointError: Not UTF-8, not JSON, not an object, a key twice in one object, NaN or an infinity, a
            lone surrogate in a key, nesting or a number beyond reason.
    """

    def fail(what: str) -> NoReturn:
        raise CheckpointError(
            f"{where} must be one JSON object in UTF-8, but {what}. The file is damaged or another file "
            "than its name suggests: fetch it again or write it again."
        )

    brackets = _brackets(data)
    if len(data) > SMALL_BYTES and len(brackets) * MIN_BYTES_PER_BRACKET > 2 * len(data):
        fail("it consists of brackets")
    if _is_deep(brackets):
        fail("it is nested too deeply")
    try:
        with no_collection():
            parsed = json.loads(
                data.decode("utf-8"),
                object_pairs_hook=_unique_keys(fail, escapes=b"\\u" in data),
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


def _brackets(data: bytes) -> bytes:
    """The brackets of a JSON text outside its strings."""
    bare = data.replace(b"\\\\", b"").replace(b'\\"', b"")  # now every quote opens a string or ends one
    marks = bare.translate(None, delete=_NO_BRACKET_NOR_QUOTE).replace(b'""', b"")
    return b"".join(marks.split(b'"')[::2])


def _is_deep(brackets: bytes) -> bool:
    """Whether brackets nest beyond `MAX_DEPTH`: each round takes the innermost pairs away."""
    for _ in range(MAX_DEPTH):
        inner = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if len(inner) == len(brackets):
            return False  # none left, or unbalanced, which the parser will report
        brackets = inner
    return bool(brackets)


@contextmanager
def no_collection() -> Iterator[None]:
    """Make many objects without the collector looking through all of them again and again."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _unique_keys(
    fail: Callable[[str], NoReturn], *, escapes: bool
) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    """Makes objects; `escapes`: the text has some, without which there is no lone surrogate in UTF-8."""

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        built = dict(pairs)
        if len(built) != len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            fail(f"the key {shown(twice)} appears twice in one object")
        for key in built if escapes else ():
            if not key.isascii() and not is_encodable(key):
                fail(f"the key {shown(key)} has a lone surrogate, which no UTF-8 text can encode")
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


def read_small_file(path: Path, *, what: str, limit: int = MAX_JSON_BYTES) -> bytes:
    """The bytes of a file of at most `limit` bytes.

    Raises:
        CheckpointError: As `regular_file_bytes`, or too large, or unreadable.
    """
    num_bytes = regular_file_bytes(path, what=what)
    if num_bytes > limit:
        raise CheckpointError(
            f"{what} has {num_bytes} bytes, more than the {limit} that such a file may have ({path})."
        )
    try:
        with path.open("rb") as file:
            return file.read(limit)
    except OSError as error:
        raise CheckpointError(f"{what} cannot be read: {error}. Check its permissions.") from error
