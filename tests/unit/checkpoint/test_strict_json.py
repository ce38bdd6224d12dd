"""The look at a JSON text before it is parsed, and what the parser's hooks refuse."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biject.checkpoint.strict_json import MAX_DEPTH, _brackets, parse_object
from biject.errors import CheckpointError

NASTY = st.text(alphabet='"\\[]{}:, \nnué', max_size=12)
VALUES = st.recursive(
    NASTY | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NASTY, inner, max_size=4),
    max_leaves=20,
)


def brackets_one_by_one(data: bytes) -> bytes:
    """By the definition: without strings, then brackets only."""
    bare = re.sub(rb'"(?:[^"\\]|\\.)*"', b"", data, flags=re.DOTALL)
    return bytes(byte for byte in bare if byte in b"[]{}")


@given(VALUES, st.booleans())
def test_brackets_outside_strings(value: Any, escaped: bool) -> None:
    data = json.dumps(value, ensure_ascii=escaped).encode()
    assert _brackets(data) == brackets_one_by_one(data)


@given(st.text(alphabet='"\\[]{}a', max_size=40))
def test_brackets_before_the_first_fault(text: str) -> None:
    """Text that is no JSON: what stands before a stray backslash or an open string is counted as well."""
    valid = b'{"a\\\\": [[1, 2], {"]\\"": []}], "b": '
    assert _brackets(valid + text.encode()).startswith(b"{[[]{[]}]")


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_nesting_hidden_behind_escapes_is_found(opening: str) -> None:
    closing = "]" if opening == "[" else "}"
    for key in (r"\\", r"\"", r"\\\"", r"[\\\\"):
        deep = opening * (MAX_DEPTH + 1) + "1" + closing * (MAX_DEPTH + 1)
        assert parse_object(f'{{"{key}": 1}}'.encode(), where="here")
        with pytest.raises(CheckpointError, match="nested too deeply"):
            parse_object(f'{{"{key}": {deep}}}'.encode(), where="here")


@pytest.mark.parametrize("key", [r"\ud800", r"a\uDFFFb", r"\\\ud800"])
def test_a_lone_surrogate_in_a_key(key: str) -> None:
    with pytest.raises(CheckpointError, match="lone surrogate"):
        parse_object(f'{{"a": [{{"{key}": 1}}]}}'.encode(), where="here")
    with pytest.raises(CheckpointError, match="not UTF-8"):
        parse_object(b'{"' + "\ud800".encode("utf-8", "surrogatepass") + b'": 1}', where="here")


def test_pairs_of_surrogates_are_one_character() -> None:
    assert parse_object(rb'{"\ud83d\ude00": 1}', where="here") == {"😀": 1}
