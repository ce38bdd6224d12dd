"""Mutations of good folders: of the text, of JSON's structure, of bytes. One seed gives one input, always."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

NUMBERS = (0, -1, 1, 2, 3, 7, 255, 2**31 - 1, 2**31, 2**53 + 1, 2**62, 2**63, 2**64, 10**30, 0.5, -0.0, 1e308)
OTHERS = (None, True, False, "", "x", "\ud800", "../x", "F32", "I64", "NaN", [], {}, [[]], [0, 4], {"a": 1})
JUNK = (
    b"\0",
    b'"',
    b"-",
    b"9",
    b"[",
    b"{",
    b"}",
    b"]",
    b",",
    b":",
    b"\\",
    b"\xff",
    b"\xef\xbb\xbf",
    b"e9",
    b"NaN",
)

Mutation = Callable[[random.Random, bytes], bytes]


def bytes_(generator: random.Random, data: bytes) -> bytes:
    """Replace, insert or remove a few bytes; cut, double or swap stretches."""
    for _ in range(generator.randint(1, 4)):
        at = generator.randrange(len(data) + 1)
        match generator.randrange(7):
            case 0:
                data = data[:at] + generator.choice(JUNK) + data[at:]
            case 1:
                data = data[:at] + data[at + generator.randint(1, 20) :]
            case 2:
                data = data[:at] + generator.randbytes(generator.randint(1, 8)) + data[at + 4 :]
            case 3:
                data = data[:at]
            case 4:
                data = data[:at] + data[max(0, at - generator.randint(1, 200)) :]
            case 5 if data:
                at = min(at, len(data) - 1)
                data = data[:at] + bytes([data[at] ^ 1 << generator.randrange(8)]) + data[at + 1 :]
            case _:
                data = data[:at] + generator.choice(JUNK) * generator.choice([2, 100, 5000]) + data[at:]
    return data


def json_(generator: random.Random, data: bytes) -> bytes:
    """Change values, types, keys and nesting of a JSON text; now and then its bytes as well."""
    value = json.loads(data)
    for _ in range(generator.randint(1, 3)):
        value = _node(generator, value)
    text = json.dumps(value, ensure_ascii=generator.random() < 0.9)
    if generator.random() < 0.1:
        text = text.replace(
            '": ', '": ' + generator.choice(["NaN", "Infinity", "1e999", "9" * 4400, "--1"]), 1
        )
    changed = text.encode("utf-8", "surrogatepass")
    return bytes_(generator, changed) if generator.random() < 0.15 else changed


def _node(generator: random.Random, value: Any) -> Any:
    """`value` with one place inside it changed."""
    if isinstance(value, dict) and value and generator.random() < 0.85:
        key = generator.choice(list(value))
        changed = dict(value)
        match generator.randrange(8):
            case 0:
                del changed[key]
            case 1:
                changed[generator.choice(["", "x" * 3000, "\ud800", "a\0b", key + " ", "__metadata__"])] = (
                    changed[key]
                )
            case 2:
                changed[key] = changed[generator.choice(list(value))]
            case _:
                changed[key] = _node(generator, value[key])
        return changed
    if isinstance(value, list) and value and generator.random() < 0.8:
        at = generator.randrange(len(value))
        return [*value[:at], _node(generator, value[at]), *value[at + generator.randrange(3) :]]
    return _leaf(generator, value)


def _leaf(generator: random.Random, value: Any) -> Any:
    kind = generator.randrange(6)
    if kind == 0 and isinstance(value, int) and not isinstance(value, bool):
        return value + generator.choice([-1, 1, 4, -4, 2**32])
    if kind == 1 and isinstance(value, str):
        return value + generator.choice(["x", "/", "\n", "\0", "x" * 100_000])
    if kind == 2:
        for _ in range(generator.choice([1, 3, 250])):
            value = [value]
        return value
    return generator.choice(OTHERS if kind == 3 else NUMBERS if kind < 5 else (*NUMBERS, *OTHERS))


def header(generator: random.Random, data: bytes) -> bytes:
    """A safetensors file: its header as JSON, its length, or its bytes."""
    size = struct.unpack("<Q", data[:8])[0]
    kind = generator.random()
    if kind < 0.15:
        length = generator.choice([0, 1, size - 1, size + 1, len(data), 2**31, 2**63, 2**64 - 1])
        return struct.pack("<Q", length) + data[8:]
    if kind < 0.4:
        end = generator.choice([8, 8 + size, len(data)])
        return bytes_(generator, data[:end]) + data[end:]
    text = json_(generator, data[8 : 8 + size])
    rest = data[8 + size :]
    if generator.random() < 0.1:
        rest = bytes_(generator, rest)
    return struct.pack("<Q", len(text)) + text + rest


def lines(generator: random.Random, data: bytes) -> bytes:
    """A file of lines: some twice, gone, swapped, joined or of strange text."""
    rows = data.split(b"\n")
    for _ in range(generator.randint(1, 4)):
        at = generator.randrange(len(rows))
        strange = generator.choice(
            [b"", b" ", b"\r", b"\xff", "日本\u2028".encode(), b"x" * 50_000, b"a b c d", b"\0"]
        )
        match generator.randrange(4):
            case 0:
                rows.insert(at, strange)
            case 1:
                rows[at] += strange
            case 2:
                rows.insert(at, generator.choice(rows))
            case _:
                rows = rows[:at] + rows[at + 1 :] or [b""]
    return b"\n".join(rows)


def spoil(generator: random.Random, path: Path, how: tuple[Mutation, ...]) -> None:
    """Mutate one file in place."""
    path.write_bytes(generator.choice(how)(generator, path.read_bytes()))
