"""The parser: commands by name, each imported when it is run, and errors turned into exit codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cyclopts import App, CycloptsError, Parameter

from biject._version import __version__
from biject.cli.commands import COMMANDS
from biject.cli.session import UNUSABLE, complain, guarded

if TYPE_CHECKING:
    from rich.console import Console


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
    """Run the command and return its exit code; wrong usage is one message on stderr and no traceback."""
    command = arguments[0] if arguments and arguments[0] in COMMANDS else ""
    app = build_app(listing=not command)
    try:
        return guarded(
            lambda: app(
                arguments,
                result_action="return_value",
                exit_on_error=False,
                print_error=False,
                help_on_error=False,
            )
        )
    except CycloptsError as error:
        complain(
            " ".join(str(error).split("\n")), hint=f"See `biject {command + ' ' if command else ''}--help`."
        )
        return UNUSABLE


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
