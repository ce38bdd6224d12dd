"""Run what a folder brings (tokenizers, chat templates) in a child process, within limits of time and memory.

A chat template is a program, and a normalizer may double its text at every rule: neither can be bounded by
looking at it. The child is forked, so it costs milliseconds; where processes cannot be forked (Windows), the
call runs here.
"""

from __future__ import annotations

import faulthandler
import json
import os
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

import biject.errors
from biject.errors import BijectError, CheckpointError
from biject.verify.report import NothingToCompare

SECONDS = 30
"""Of processor time; of wall-clock time twice as much. A tokenizer of 250,000 tokens took 2.6 to 3.7."""
BYTES = 1_500_000_000
"""Of address space above what the process has already. The same tokenizers took 0.4 GB."""
_ANSWER_BYTES = 50_000_000


def limited(
    call: Callable[[], Any], *, what: str, seconds: int | None = None, memory: int | None = None
) -> Any:
    """What `call` gives, through JSON.

    Args:
        call: Gives a value that JSON can express; raises `BijectError`s and `NothingToCompare`.
        what: For the message, e.g. `the tokenizer of …`.
        seconds: Of processor time; `SECONDS` where left out.
        memory: Bytes above what this process has; `BYTES` where left out.

    Raises:
        CheckpointError: The child took more time or memory than that, or died.
        BijectError, NothingToCompare: What the call raised; any other error as a `CheckpointError`.
    """
    if not hasattr(os, "fork"):
        return call()
    seconds, memory = seconds or SECONDS, memory or BYTES
    reading, writing = os.pipe()
    sys.stdout.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads: none of them is used
        child = os.fork()
    if child == 0:
        os.close(reading)
        _answer(call, writing, seconds=seconds, memory=memory)
    os.close(writing)
    try:
        data = _read(reading, until=time.monotonic() + 2 * seconds)
    finally:
        os.close(reading)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if data is None:
        raise CheckpointError(
            f"{what} takes more than {seconds} seconds or {memory >> 20} MiB, or ends its process: it was "
            "stopped. One that loops or multiplies its text is damaged or hostile; do not use the folder."
        )
    answer = json.loads(data)
    if "error" in answer:
        _raise(answer["error"], answer["message"])
    return answer["value"]


def _answer(call: Callable[[], Any], writing: int, *, seconds: int, memory: int) -> NoReturn:
    """The child: one line of JSON, then the end, without any of the parent's clean-up."""
    faulthandler.disable()  # its end is expected, and told by the parent
    try:
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        os.dup2(1, 2)
        _set_limits(seconds, memory)
        try:
            answer: dict[str, Any] = {"value": call()}
        except (BijectError, NothingToCompare) as error:
            answer = {"error": type(error).__name__, "message": str(error)}
        except MemoryError:
            os._exit(1)
        except Exception as error:
            answer = {"error": "", "message": f"{type(error).__name__}: {error}"}
        data = json.dumps(answer).encode() + b"\n"
        while data:
            data = data[os.write(writing, data) :]
    finally:
        os._exit(0)


def _set_limits(seconds: int, memory: int) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, ValueError):  # elsewhere than on Linux, time alone is bounded
        with open("/proc/self/statm", encoding="ascii") as file:
            used = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + memory, used + memory))


def _read(reading: int, *, until: float) -> bytes | None:
    """The child's line; None where it ends without one, is too late or writes too much."""
    parts: list[bytes] = []
    size = 0
    while (left := until - time.monotonic()) > 0 and size < _ANSWER_BYTES:
        if not select.select([reading], [], [], left)[0]:
            return None
        part = os.read(reading, 1 << 16)
        if not part:
            return None
        parts.append(part)
        size += len(part)
        if part.endswith(b"\n"):
            return b"".join(parts)
    return None


def _raise(name: str, message: str) -> NoReturn:
    if name == NothingToCompare.__name__:
        raise NothingToCompare(message)
    kind = getattr(biject.errors, name, None) if name else None
    if isinstance(kind, type) and issubclass(kind, BijectError):
        raise kind(message)
    raise CheckpointError(message)
