"""Writes what `biject --help` and `biject COMMAND --help` print: `python -m biject.cli.generate_help`.

The texts are kept beside the code, because rendering them takes cyclopts and rich a quarter of a second; a
test proves that they are what cyclopts renders.
"""

from __future__ import annotations

from biject.cli.app import render_help
from biject.cli.commands import COMMANDS, HELP_COLUMNS, HELP_FOLDER


def texts() -> dict[str, str]:
    """File name → the text as cyclopts renders it now."""
    whole = {"biject.txt": render_help(None, columns=HELP_COLUMNS)}
    return whole | {f"{name}.txt": render_help(name, columns=HELP_COLUMNS) for name in COMMANDS}


def write() -> None:
    """Bring `cli/help/` up to date."""
    HELP_FOLDER.mkdir(exist_ok=True)
    for name, text in texts().items():
        (HELP_FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
