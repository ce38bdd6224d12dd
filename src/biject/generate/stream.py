"""Tokens as text while they come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

from biject.errors import InputError

_UNFINISHED = "\ufffd"
_CONTEXT = 4
"""Tokens of the prompt."""


class DecoderLike(Protocol):
    """A tokenizer, such as `biject.tokenization.tokenizer.Tokenizer`."""

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """The text that ids stand for."""


class TextStream:
    """A streamer that writes one text's continuation piece by piece; characters are written when complete.

    Args:
        tokenizer: the model's.
        write: takes each piece.

    Attributes:
        ids: the new tokens so far.
    """

    def __init__(self, tokenizer: DecoderLike, write: Callable[[str], None]) -> None:
        self.tokenizer, self.write = tokenizer, write
        self.ids: list[int] = []
        self._all: list[int] = []
        self._from, self._written = 0, 0
        self._has_prompt = False

    def put(self, value: Tensor) -> None:
        """The prompt first, which is not written, then token by token."""
        if value.shape[0] != 1:
            raise InputError(f"a TextStream writes one text; found {value.shape[0]}.")
        new = value.flatten().tolist()
        self._all += new
        if not self._has_prompt:
            self._has_prompt = True
            self._written = len(self._all)
            self._from = self._inside()
            return
        self.ids += new
        self._write(end=False)

    def end(self) -> None:
        """Write what was kept back."""
        self._write(end=True)

    def _inside(self) -> int:
        """Where the few last tokens of the prompt begin, more of them if these are special and have no text:
        they tell the decoder that it is inside of a text.
        """
        start = max(0, self._written - _CONTEXT)
        while start > 0 and not self._text(self._all[start:]):
            start = max(0, start - _CONTEXT)
        return start

    def _write(self, *, end: bool) -> None:
        before = self._text(self._all[self._from : self._written])
        text = self._text(self._all[self._from :])
        if text.endswith(_UNFINISHED) and not end:
            return
        if len(text) > len(before):  # else tokens have no text, and the next one must not be the first
            self.write(text[len(before) :])
            self._from, self._written = self._written, len(self._all)

    def _text(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True) if ids else ""
