"""Where the `biject` command starts.

Help and the version are answered from texts written ahead (`generate_help.py`), so that they cost an
interpreter's start and no more. `inspect` in its plain form goes without a parser as well; anything else
loads it, and the one command that was named.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from biject.cli.commands import COMMANDS, HELP_COLUMNS, HELP_FOLDER

_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
_BROKEN_PIPE = 141  # 128 + SIGPIPE
_ANSWERS = frozenset({"predict"})
"""Commands that have nothing left to do when they have printed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns 0 if it passed, 1 if a gate failed, 2 on wrong usage or unusable input."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _main(given, as_program=arguments is None)
        if arguments is None and given[:1] and given[0] in _ANSWERS:
            _leave(code)
        return code
    except KeyboardInterrupt:
        print("biject: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:  # `biject … | head`: nobody reads on, which is no error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE


def _leave(code: int) -> None:
    """End the process now: to take torch apart costs Python half a second, and nobody needs it."""
    import atexit

    atexit._run_exitfuncs()  # what somebody registered is done
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _main(arguments: list[str], *, as_program: bool) -> int:
    text = ready_text(arguments)
    if text is not None:
        print(text, end="", flush=True)
        return 0

    from biject.cli.interrupts import not_lost

    with not_lost():
        code = _work(arguments, as_program=as_program)
    sys.stdout.flush()
    return code


def _work(arguments: list[str], *, as_program: bool) -> int:
    from biject.checkpoint.truncated import end_in_order
    from biject.cli import child
    from biject.environment import prepare

    if as_program and child.wanted(arguments):
        return child.run(arguments)
    child.limit()
    prepare()
    end_in_order()
    return _run(arguments)


def _run(arguments: list[str]) -> int:
    from biject.cli.inspect_plain import plain_form, show

    plain = plain_form(arguments)
    if plain is not None:
        from biject.cli.session import guarded

        folder, json = plain
        return guarded(lambda: show(folder, json=json))
    from biject.cli.app import run

    return run(arguments)


def ready_text(arguments: Sequence[str]) -> str | None:
    """The text written ahead that answers `arguments`, or None where there is work to do."""
    before_dashes = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if list(arguments) == ["--version"]:
        from biject._version import __version__

        return f"{__version__}\n"
    if arguments and not {"--help", "-h"}.intersection(before_dashes):
        return None
    if _terminal_columns() < HELP_COLUMNS:
        return None  # cyclopts lays it out again for a narrow terminal
    name = arguments[0] if arguments and arguments[0] in COMMANDS else "biject"
    return (HELP_FOLDER / f"{name}.txt").read_text(encoding="utf-8")


def _terminal_columns() -> int:
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or HELP_COLUMNS
    except (OSError, ValueError, AttributeError):  # not a terminal: a file, a pipe, a test's buffer
        return HELP_COLUMNS


if __name__ == "__main__":
    sys.exit(main())
