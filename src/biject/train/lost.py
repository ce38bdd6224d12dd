"""When another process is gone or hangs: one message that says which one, instead of a silent wait."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch.distributed as dist

from biject.errors import BijectError
from biject.train import ranks

ANSWER_SECONDS = 5.0
"""How long the others have to say that they are still there."""
_BROKEN = re.compile(
    r"connection (closed|reset|refused)|reset by peer|timed out|broken pipe|remote error", re.IGNORECASE
)


class RankError(BijectError):
    """Another process of the run is gone, or does not answer."""


@contextmanager
def noticed() -> Iterator[None]:
    """Turn an exchange that broke off into one error that names the process.

    Raises:
        RankError: in place of torch's error.
    """
    try:
        yield
    except RuntimeError as error:
        if ranks.count() == 1 or not _BROKEN.search(str(error)):
            raise
        raise RankError(_message(str(error), _silent())) from error


def _silent() -> list[int]:
    """Ranks that do not say that they are there; every rank that is says it here."""
    try:
        store = dist.distributed_c10d._get_default_store()
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        key = f"biject/there/{attempt}"
        store.set_timeout(timedelta(seconds=ANSWER_SECONDS))
        store.set(f"{key}/{ranks.rank()}", "1")
        missing = [rank for rank in range(ranks.count()) if rank != ranks.rank()]
        until = time.monotonic() + ANSWER_SECONDS
        while missing and time.monotonic() < until:
            time.sleep(0.1)
            missing = [rank for rank in missing if not store.check([f"{key}/{rank}"])]
    except RuntimeError:  # the store was in the process that is gone
        return []
    return missing


def _message(cause: str, silent: list[int]) -> str:
    late = "timed out" in cause.lower()
    who = f"Process {', '.join(map(str, silent))}" if silent else "Another process"
    what = "does not answer: it hangs or was stopped" if late else "is gone"
    first = cause.strip().splitlines()[0][:200]
    return (
        f"{who} of this run {what} ({first}). Nothing after the last checkpoint is kept: `torchrun "
        "--max-restarts N` starts again from there by itself, or use --resume. How long is waited is "
        "`sync.timeout`."
    )
