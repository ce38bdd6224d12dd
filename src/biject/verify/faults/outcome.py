"""What became of a planted fault."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


class DoesNotApply(Exception):  # noqa: N818 - a reason, not an error
    """A fault has no place in this model; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One fault.

    Attributes:
        kind: E.g. `q-k-swapped`.
        status: Caught by every level that should; missed by one of them; or there is no place for it.
        planted: What was done, e.g. names of tensors.
        levels: The levels that had to catch it; `opening` stands for not being able to open the folder.
        detail: What was said about it, or why it does not apply.
    """

    kind: str
    status: Literal["caught", "missed", "does not apply"]
    planted: str = ""
    levels: tuple[str, ...] = ()
    detail: str = ""
