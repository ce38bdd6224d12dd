"""Texts from arguments, a file or standard input."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from biject.errors import InputError

Item = str | tuple[str, str]

_FIRST = ("text", "question")
_SECOND = ("text_pair", "context", "pair")


def read_items(texts: Sequence[str], *, file: Path | None, pair: str | None) -> list[Item]:
    """What to predict on: texts, or pairs where `pair` or a line of JSON gives the second text.

    Raises:
        InputError: there is none, there are two sources, or a line cannot be read.
    """
    if texts and file is not None:
        raise InputError("Give texts as arguments or in --file, not both.")
    items: list[Item] = list(texts)
    if not texts:
        name, data = _source(file)
        lines = _lines(name, data)
        as_json = _is_json(file, lines)
        items = [_from_json(line, f"{name}, line {n}") if as_json else line for n, line in lines]
        if not items:
            raise InputError(f"{name} has no text.")
    return items if pair is None else [(item, pair) if isinstance(item, str) else item for item in items]


def _source(file: Path | None) -> tuple[str, bytes]:
    if file is None or str(file) == "-":
        if sys.stdin is None or sys.stdin.isatty():
            raise InputError("There is no text: give it as arguments, in --file, or on standard input.")
        return "standard input", sys.stdin.buffer.read()
    try:
        return str(file), file.read_bytes()
    except OSError as error:
        raise InputError(f"--file {file} cannot be read: {error.strerror}.") from error


def _lines(name: str, data: bytes) -> list[tuple[int, str]]:
    """Lines with their numbers, blank ones left out."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{name} must be UTF-8 text; byte {error.start} is not.") from error
    lines = [(n, line.removesuffix("\r")) for n, line in enumerate(text.split("\n"), 1)]
    return [(n, line) for n, line in lines if line.strip()]


def _is_json(file: Path | None, lines: list[tuple[int, str]]) -> bool:
    """By a file's name; on standard input by its first character."""
    if file is not None and str(file) != "-":
        return file.suffix in (".jsonl", ".ndjson")
    return bool(lines) and lines[0][1].lstrip().startswith("{")


def _from_json(line: str, where: str) -> Item:
    try:
        value: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} must be a JSON object, as lines of JSONL are: {error}.") from error
    if isinstance(value, str):
        return value
    given = value if isinstance(value, dict) else {}
    first = next((given[key] for key in _FIRST if key in given), None)
    second = next((given[key] for key in _SECOND if given.get(key) is not None), None)
    if not isinstance(first, str) or not isinstance(second, str | None):
        raise InputError(
            f"{where} must have `text` (and `text_pair`), or `question` and `context`, as strings."
        )
    return first if second is None else (first, second)
