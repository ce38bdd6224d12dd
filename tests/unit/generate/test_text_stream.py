"""Text that comes in pieces."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

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


PIECES = {
    "llama": ["▁a", "▁the", "b", "▁", ".", ("<0xC3>", "<0xA9>"), ("<0xE2>", "<0x82>", "<0xAC>")],
    "metaspace": ["▁a", "▁the", "b", "▁", "."],
    "bytes": ["Ġa", "Ġthe", "b", "Ġ", ".", ("Ã", "©")],
    "words": ["a", "the", "##b", "."],
}
"""Kind of decoder → what its tokens are; tuples are characters of several tokens."""


class Kind:
    """A tokenizer of a few pieces and two special tokens."""

    def __init__(self, kind: str) -> None:
        from tokenizers import Tokenizer, decoders, models

        parts = [piece if isinstance(piece, tuple) else (piece,) for piece in PIECES[kind]]
        names = ["<unk>", *dict.fromkeys(name for part in parts for name in part)]
        self.backend = Tokenizer(models.BPE(vocab={name: i for i, name in enumerate(names)}, merges=[]))
        self.backend.add_special_tokens(["<s>", "</s>"])
        self.backend.decoder = {
            "llama": decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                        decoders.Strip(" ", 1, 0)]),
            "metaspace": decoders.Metaspace(),
            "bytes": decoders.ByteLevel(),
            "words": decoders.WordPiece(),
        }[kind]  # fmt: skip
        self.pieces = [tuple(map(self.backend.token_to_id, part)) for part in [*parts, ("<s>",), ("</s>",)]]

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        return str(self.backend.decode(list(ids), skip_special_tokens=skip_special_tokens))


@pytest.mark.parametrize("kind", PIECES)
def test_pieces_joined_are_the_whole_text(kind: str) -> None:
    """Special tokens have no text, and take none from the tokens after them."""
    tokenizer, draw = Kind(kind), random.Random(0)
    *_, special = tokenizer.pieces
    for case in range(100):
        drawn: list[Any] = draw.choices(tokenizer.pieces, k=12)
        prompt = [*tokenizer.pieces[1], *special * (case % 3 * 6)]
        new = [token for piece in drawn for token in piece]
        pieces: list[str] = []
        stream = TextStream(tokenizer, pieces.append)
        stream.put(torch.tensor([prompt]))
        for token in new:
            stream.put(torch.tensor([token]))
        stream.end()
        before, whole = (tokenizer.decode(x, skip_special_tokens=True) for x in (prompt, [*prompt, *new]))
        assert before + "".join(pieces) == whole, (drawn, pieces)


def test_a_stream_is_of_one_text() -> None:
    with pytest.raises(InputError, match="one text"):
        TextStream(Utf8(), print).put(torch.zeros(2, 3, dtype=torch.long))
