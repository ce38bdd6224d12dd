"""Run a command in a process of its own, which may crash or fill its memory without harm to anything else.

`biject verify-export` is run so, since transformers loads there what somebody else brought. The child finds
no modules in the current folder, no code that transformers keeps from other folders, and no more memory than
the machine has.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress

COMMANDS = frozenset({"verify-export"})
MARK = "BIJECT_CHILD"
_INTERRUPTED = 130
_UNUSABLE = 2
_KILLED = "it was killed, most likely since memory ran out"


def wanted(arguments: Sequence[str]) -> bool:
    """Whether these arguments are to be run in a child, and this is not the child."""
    return bool(arguments) and arguments[0] in COMMANDS and MARK not in os.environ


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code; 2 with one message where a signal ended it."""
    with tempfile.TemporaryDirectory(prefix="biject-modules-") as modules:
        environment = {
            **os.environ,
            MARK: "1",
            "PYTHONSAFEPATH": "1",  # nothing is imported from the current folder
            "HF_MODULES_CACHE": modules,  # where transformers would keep a repository's code
        }
        process = subprocess.Popen([sys.executable, "-m", "biject.cli.main", *arguments], env=environment)
        try:
            code = process.wait()
        except KeyboardInterrupt:  # the child has it, too
            with suppress(KeyboardInterrupt):
                process.wait()
            return _INTERRUPTED
        finally:
            if process.poll() is None:
                process.kill()
    if code >= 0:
        return code
    with suppress(ValueError):
        name = signal.Signals(-code).name
        what = _KILLED if -code == getattr(signal, "SIGKILL", None) else f"{name} ended it"
        print(f"biject: error: the verification has no result: {what}. This proves nothing of the folder: "
              "look at its files, or try on a machine with more memory.", file=sys.stderr)  # fmt: skip
    return _UNUSABLE


def limit() -> None:
    """In the child: as much memory as the machine has, and no core file."""
    if MARK not in os.environ:
        return
    with suppress(ImportError, OSError, ValueError, AttributeError):  # not on every system
        import resource

        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
