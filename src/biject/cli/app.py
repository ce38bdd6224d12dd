"""The parser: commands by name, each imported when it is asked for, and errors turned into exit codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import TYPE_CHECKING

from cyclopts import App, CycloptsError, Parameter

from biject import __version__
from biject.cli.main import COMMANDS
from biject.errors import BijectError
from biject.events import listening

if TYPE_CHECKING:
    from rich.console import Console

_UNUSABLE = 2


def build_app(*, listing: bool = False) -> App:
    """The `biject` command; a command's module is imported when it is named, all of them for a `listing`."""
    app = App(
        name="biject",
        help="Hugging Face checkpoints, both ways, with proof.",
        help_format="plaintext",
        help_epilogue="Exit codes: 0 passed, 1 a gate failed, 2 wrong usage or unusable input.",
        version=__version__,
        default_parameter=Parameter(negative=""),
        suppress_keyboard_interrupt=False,
    )
    for place, name in enumerate(COMMANDS):
        function = name.replace("-", "_")
        app.command(f"biject.cli.{function}:{function}", name=name, sort_key=place)
        if listing:
            app[name]  # resolves the import
    return app


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code; a user's error is one message on stderr and no traceback."""
    from biject.cli.console import TerminalListener

    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be UTF-8
    command = arguments[0] if arguments and arguments[0] in COMMANDS else ""
    app = build_app(listing=not command)
    listener = TerminalListener()
    try:
        with listener, listening(listener):
            code = app(
                arguments,
                result_action="return_value",
                exit_on_error=False,
                print_error=False,
                help_on_error=False,
            )
    except CycloptsError as error:
        _complain(str(error), hint=f"See `biject {command + ' ' if command else ''}--help`.")
        return _UNUSABLE
    except BijectError as error:
        _complain(str(error))
        return _UNUSABLE
    return code if isinstance(code, int) else 0


def _complain(message: str, *, hint: str = "") -> None:
    print(f"biject: error: {message}", file=sys.stderr)
    if hint:
        print(hint, file=sys.stderr)


def render_help(command: str | None, *, columns: int) -> str:
    """What cyclopts prints for `biject [command] --help`, without colour."""
    console = _plain_console(columns)
    with console.capture() as capture:
        build_app(listing=not command).help_print([command] if command else [], console=console)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def _plain_console(columns: int) -> Console:
    from rich.console import Console

    return Console(
        width=columns, color_system=None, force_terminal=False, legacy_windows=False, soft_wrap=False
    )
