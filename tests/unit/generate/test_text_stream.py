"""Text that comes in pieces."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from biject.errors import InputError
from biject.generate.stream import TextStream


class Utf8:
    """Every byte is a token."""

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        return bytes(ids).decode("utf-8", errors="replace")


def test_pieces_hold_whole_characters() -> None:
    pieces: list[str] = []
    stream = TextStream(Utf8(), pieces.append)
    stream.put(torch.tensor([list("à".encode())]))
    for byte in "né€!".encode():
        stream.put(torch.tensor([byte]))
    stream.put(torch.tensor([0xC3]))
    stream.end()
    assert pieces == ["n", "é", "€", "!", "\ufffd"]
    assert bytes(stream.ids) == "né€!".encode() + b"\xc3"


def test_a_stream_is_of_one_text() -> None:
    with pytest.raises(InputError, match="one text"):
        TextStream(Utf8(), print).put(torch.zeros(2, 3, dtype=torch.long))
