"""A call that memory does not suffice for, in words of the call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from biject.errors import InputError

_SAID = ("can't allocate memory", "size calculation overflowed", "integer multiplication overflow")
"""How torch says on the CPU that a tensor is too large; elsewhere it has a type of error for that."""


@contextmanager
def enough_memory(*, texts: int, length: int) -> Iterator[None]:
    """Name what was asked for where memory does not suffice.

    Args:
        texts: how many are generated at once.
        length: the most tokens of each, the prompt's too.

    Raises:
        InputError: it does not.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_about_memory(error):
            raise
        raise InputError(
            f"memory does not suffice for {texts} text{'s' * (texts != 1)} of up to {length} tokens, whose "
            "keys and values have their place from the start: use a smaller `max_new_tokens` (or "
            "`max_length`), or fewer texts at once."
        ) from error


def _is_about_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(words in str(error) for words in _SAID)
