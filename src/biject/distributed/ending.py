"""The end of a process that exchanged tensors over Gloo.

Gloo's threads let go of the last collectives' tensors after these have ended, and need Python's lock for it.
Where they ask for it when Python is already taking itself apart, the process is aborted ("terminate called
without an active exception"). `destroy_process_group` does not help while a sharded model holds the group.
"""

from __future__ import annotations

import atexit
import time
from functools import cache

LET_GO_SECONDS = 0.2
"""How long Gloo's threads have to let go of their last tensors."""


def let_go() -> None:
    """Give Python's lock away for a moment."""
    time.sleep(LET_GO_SECONDS)


@cache
def let_go_at_exit() -> None:
    """Do so at the end of the process, once."""
    atexit.register(let_go)
