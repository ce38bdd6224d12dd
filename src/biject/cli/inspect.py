"""`biject inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from biject.cli.flags import Json


def inspect(folder: Annotated[Path, Parameter(name="DIR")], /, *, json: Json = False) -> int:
    """Say what a checkpoint folder is, and what is odd about it.

    Reads the headers of the weight files, not the weights. The exit code is 1 where something stands in
    the way of loading it.

    Args:
        folder: A checkpoint folder.
    """
    from biject.inspection import inspect_folder

    found = inspect_folder(folder)
    if json:
        from biject.cli.console import print_json

        print_json(found.to_dict())
    else:
        from biject.cli.report import print_inspection

        print_inspection(found)
    return 0 if found.usable else 1
