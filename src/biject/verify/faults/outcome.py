"""What became of a planted fault."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


class DoesNotApply(Exception):  # noqa: N818 - a reason, not an error
    """A fault does not apply to this model; the message is the reason."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One fault.

    Attributes:
        kind: E.g. `q-k-swapped`.
        status: Caught by every level that should; missed by one of them; or not applicable.
        planted: What was done, e.g. names of tensors.
        levels: The levels that had to catch it; `opening` stands for not being able to open the folder.
        detail: What the levels found, or why it does not apply.
    """

    kind: str
    status: Literal["caught", "missed", "does not apply"]
    planted: str = ""
    levels: tuple[str, ...] = ()
    detail: str = ""
