"""Stop strings: a text ends with the token that completes one of them.

The rule is that of HF's `StopStringCriteria` (transformers 5.23, generation/stopping_criteria.py): the
string may begin and end inside of tokens, may begin in the prompt, and its end lies in the newest token.
HF works out for every token of the vocabulary how it fits; here the last few tokens' texts are looked at.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from biject.errors import InputError

_PREFIX = "abcdef"
"""Text before a token, so that its decoder treats it as one inside of a text."""


class VocabularyLike(Protocol):
    """A tokenizer, such as `biject.tokenization.tokenizer.Tokenizer`."""

    @property
    def backend(self) -> Any:
        """A `tokenizers.Tokenizer`."""


class StopStrings:
    """Looks for the strings at the end of texts.

    Args:
        strings: at least one, none empty.
        tokenizer: what the ids stand for.

    Raises:
        InputError: there is no tokenizer.
    """

    def __init__(self, strings: Sequence[str], tokenizer: VocabularyLike | None) -> None:
        if tokenizer is None:
            raise InputError(
                "`stop_strings` are texts, so that generate needs `tokenizer`, too: pass the model's."
            )
        self.backend = tokenizer.backend
        self._kind = _decoder_kind(self.backend)
        self._before = self.backend.encode(_PREFIX, add_special_tokens=False).tokens
        self._strings = [string.encode() for string in strings]
        # HF looks back as many tokens as the longest string has characters (bytes, where tokens are bytes).
        self._tokens = max(len(string.encode() if self._kind else string) for string in strings)
        self._pieces: dict[int, bytes] = {}

    def reached(self, ids_BS: Tensor) -> Tensor:
        """Which texts have just come to a stop string: (B, S) → (B,), boolean."""
        rows = ids_BS[:, -self._tokens :].tolist()
        return torch.tensor([self._ends(row) for row in rows], device=ids_BS.device)

    def _ends(self, ids: list[int]) -> bool:
        pieces = [self.piece(token) for token in ids]
        newest = len(pieces[-1])
        text = b"".join(pieces)
        return newest > 0 and any(
            text.find(string, max(0, len(text) - newest - len(string) + 1)) >= 0 for string in self._strings
        )

    def piece(self, token: int) -> bytes:
        """The text of one token inside of a text, as UTF-8; it may hold part of a character."""
        if token not in self._pieces:
            self._pieces[token] = self._read(token)
        return self._pieces[token]

    def _read(self, token: int) -> bytes:
        name = self.backend.id_to_token(token)
        if name is None:
            return b""
        if self._kind == "ByteLevel" and all(char in _BYTES for char in name):
            return bytes(_BYTES[char] for char in name)
        if self._kind == "ByteFallback" and len(name) == 6 and name.startswith("<0x") and name.endswith(">"):
            try:
                return bytes([int(name[3:5], 16)])
            except ValueError:
                pass
        decoder = self.backend.decoder
        tokens = [*self._before, name]
        text = " ".join(tokens) if decoder is None else decoder.decode(tokens)
        _, found, after = text.partition(_PREFIX)
        return (after if found else name).encode()


def _decoder_kind(backend: Any) -> str | None:
    """`ByteLevel` or `ByteFallback`, where tokens can be single bytes."""
    if backend.decoder is None:
        return None
    if type(backend.decoder).__name__ == "ByteLevel":
        return "ByteLevel"
    kinds = set(_kinds(json.loads(backend.to_str())["decoder"]))
    return next((kind for kind in ("ByteFallback", "ByteLevel") if kind in kinds), None)


def _kinds(decoder: Any) -> Iterator[str]:
    if isinstance(decoder, dict):
        yield str(decoder.get("type"))
    for part in (
        decoder.values() if isinstance(decoder, dict) else decoder if isinstance(decoder, list) else ()
    ):
        yield from _kinds(part)


def _byte_characters() -> dict[str, int]:
    """GPT-2's spelling of bytes: printable ones are themselves, others start at U+0100."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + n): byte for n, byte in enumerate(others)}


_BYTES = _byte_characters()
