"""Under torchrun, only the first process speaks."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from biject.cli.plain import plain
from biject.errors import BijectError
from biject.events import listening

if TYPE_CHECKING:
    from biject.events import Notice, Progress


class _Silent:
    def notice(self, event: Notice) -> None:
        """Reported by the first process."""

    def progress(self, event: Progress) -> None:
        """Drawn by the first process."""


@contextmanager
def only_first() -> Iterator[bool]:
    """Whether this process is the first or only one; of others, nothing is heard but errors."""
    rank = os.environ.get("RANK", "0")
    if rank == "0":
        yield True
        return
    with listening(_Silent()):
        try:
            yield False
        except BijectError as error:
            print(f"biject: process {rank}: {plain(str(error))}", file=sys.stderr)
            raise SystemExit(2) from error
