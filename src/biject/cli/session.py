"""One command from its start to its exit code: who listens, and what a user's error looks like."""

from __future__ import annotations

import sys
from collections.abc import Callable
from io import TextIOWrapper

from biject.cli.console import TerminalListener
from biject.cli.plain import plain
from biject.errors import BijectError
from biject.events import listening

UNUSABLE = 2
"""The exit code of wrong usage and of unusable input."""


def guarded(command: Callable[[], object]) -> int:
    """Run a command and return its exit code; a user's error is one message on stderr and no traceback."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be UTF-8
    listener = TerminalListener()
    try:
        with listener, listening(listener):
            code = command()
    except BijectError as error:
        complain(str(error))
        return UNUSABLE
    except BrokenPipeError:
        raise
    except OSError as error:  # a folder without permission, a disk that fails
        place = f"{error.filename}: " if error.filename else ""
        complain(f"{place}{error.strerror or error}. Check that it is there and may be read or written.")
        return UNUSABLE
    return code if isinstance(code, int) else 0


def complain(message: str, *, hint: str = "") -> None:
    """Report on stderr what is wrong."""
    print(f"biject: error: {plain(message)}", file=sys.stderr)
    if hint:
        print(hint, file=sys.stderr)
