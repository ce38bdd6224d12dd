"""Flags that several commands share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from biject.errors import InputError

Json = Annotated[bool, Parameter(name="--json", show_default=False, help="Print one JSON document instead.")]
Names = Annotated[str | None, Parameter(metavar="A,B,…")]
Switch = Annotated[bool, Parameter(show_default=False)]


def by_flags(message: str, flags: Mapping[str, str]) -> str:
    """A message about settings with the flags that were typed in place of the keys that they set.

    Args:
        message: With keys between backticks; one that is proposed for a recipe stays a key.
        flags: The flag of each key that was set by one.
    """
    for key, flag in flags.items():
        message = re.sub(rf"(?<!nearest: )`{re.escape(key)}`", f"`{flag}`", message)
    return message


def model_of(name: str) -> str:
    """The folder of a run's result where a training run's folder is named; any other name stays.

    Raises:
        InputError: The run has no result yet.
    """
    path = Path(name).expanduser()
    if not (path / "run.toml").is_file() or (path / "config.json").is_file():
        return name
    from biject.runs.folder import checkpoint_of

    return str(checkpoint_of(path))


def names(value: str | None, *, flag: str, known: tuple[str, ...] = ()) -> tuple[str, ...] | None:
    """The comma-separated names of a flag, checked against `known` where that is given.

    Raises:
        InputError: a name is empty, repeated or unknown.
    """
    if value is None:
        return None
    parts = tuple(part.strip() for part in value.split(","))
    for i, part in enumerate(parts):
        if not part:
            raise InputError(f"{flag} {value!r} has an empty name at place {i + 1}; write names as a,b,c.")
        if part in parts[:i]:
            raise InputError(f"{flag} {value!r} names {part!r} twice.")
        if known and part not in known:
            raise InputError(f"{flag} does not know {part!r}; it takes {', '.join(known)}.")
    return parts
