"""Sums and comparisons of bytes are those of hashlib and of Python, whatever the lengths."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biject.checkpoint.digest import Digest, same_bytes


@given(st.lists(st.binary(max_size=40)))
def test_sum(pieces: list[bytes]) -> None:
    with Digest(b"head") as digest:
        for piece in pieces:
            digest.update(piece)
        assert digest.hexdigest() == hashlib.sha256(b"head" + b"".join(pieces)).hexdigest()


def test_a_failure_in_the_thread_is_the_caller_s() -> None:
    with Digest() as digest:
        digest.update("no bytes")  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            digest.hexdigest()


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 16, 4097])
def test_every_byte_counts(length: int) -> None:
    data = bytes(i % 251 for i in range(length))
    assert same_bytes(data, memoryview(data))
    assert not same_bytes(data, data + b"x")
    for place in {0, length // 2, length - 1} & set(range(length)):
        other = bytearray(data)
        other[place] ^= 1
        assert not same_bytes(data, memoryview(other))


def test_numbers_that_are_not_equal_to_themselves_are_bytes() -> None:
    nan = b"\x00\x00\xc0\x7f" * 4
    assert same_bytes(nan, nan)
