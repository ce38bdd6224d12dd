"""The one family of errors that users see.

Each message states what was expected, what was found, where (file, tensor, key, row) and what to do.
The command line prints the message alone and exits with 2; nothing has been written by then.
"""

from __future__ import annotations

import reprlib


class BijectError(Exception):
    """Base of every error that a user can cause and cure."""


class CheckpointError(BijectError):
    """A file or folder cannot be read or written: missing, truncated, lying header, no space, no
    permission.
    """


class ConfigError(BijectError):
    """`config.json` needs something that Biject does not compute, or contradicts itself."""


class WeightsError(BijectError):
    """Tensors are missing, have the wrong shape or dtype, or belong to something that Biject does
    not compute.
    """


class InputError(BijectError):
    """Arguments of a call do not fit the model (shapes, ranges, combinations)."""


class MissingExtraError(BijectError):
    """An optional library is needed for what was requested and is not installed."""


class BijectWarning(UserWarning):
    """Something a user should know, though the call continues."""


def shown(value: object) -> str:
    """`value` for a message: its repr in printable ASCII, cut to a readable length."""
    text = ascii(value[:200]) if isinstance(value, str) else reprlib.repr(value)
    text = text.encode("ascii", "backslashreplace").decode()
    if isinstance(value, str) and len(value) > 200:
        return f"{text[:100]}… ({len(value)} characters)"
    return text if len(text) <= 120 else f"{text[:100]}… ({len(text)} characters)"
