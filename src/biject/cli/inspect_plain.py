"""What `biject inspect` does, apart from its flags; and its plain form, for which no parser is loaded.

The parser takes longer to import than a checkpoint's headers to read. `inspect DIR` and `inspect DIR --json`
leave it nothing to decide; everything else (abbreviations, `--`, mistakes, help) goes to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from biject.errors import InputError


def show(name: str, *, json: bool, family: str | None = None) -> int:
    """Inspect a folder, or a repository of the Hub, and print what was found; 1 where something stands in the
    way of loading it.
    """
    from biject.checkpoint.adapter import is_adapter
    from biject.checkpoint.hub import resolve_folder

    folder = resolve_folder(name)
    if is_adapter(folder):
        if family is not None:
            raise InputError("--family is for a checkpoint: an adapter's family is that of its base.")
        return _show_adapter(folder, json=json)
    from biject.inspection import inspect_folder

    found = inspect_folder(folder, family=family)
    if json:
        from biject.cli.console import print_json

        print_json(found.to_dict())
    else:
        from biject.cli.report import print_inspection

        print_inspection(found)
    return 0 if found.usable else 1


def _show_adapter(folder: Path, *, json: bool) -> int:
    from biject.inspect_adapter import inspect_adapter

    found = inspect_adapter(folder)
    if json:
        from biject.cli.console import print_json

        print_json(found.to_dict())
    else:
        from biject.cli.report import print_adapter

        print_adapter(found)
    return 0 if found.usable else 1


def plain_form(arguments: Sequence[str]) -> tuple[str, bool] | None:
    """Folder and `--json` of a plain `inspect`, or None where a parser is needed."""
    if len(arguments) not in (2, 3) or arguments[0] != "inspect":
        return None
    rest = list(arguments[1:])
    json = "--json" in rest
    if json:
        rest.remove("--json")
    if len(rest) != 1 or not rest[0] or rest[0].startswith("-"):
        return None
    return rest[0], json
