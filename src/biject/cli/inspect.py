"""`biject inspect`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from biject.cli.flags import Json
from biject.cli.inspect_plain import show


def inspect(
    folder: Annotated[str, Parameter(name="DIR")],
    /,
    *,
    family: Annotated[str | None, Parameter(metavar="NAME")] = None,
    json: Json = False,
) -> int:
    """Say what a checkpoint folder is, and what is odd about it.

    Reads the headers of the weight files, not the weights. The exit code is 1 where something stands in
    the way of loading it.

    Args:
        folder: A checkpoint folder, or an adapter's; or a repository on the Hub.
        family: The `model_type` of a folder whose config.json names none.
    """
    return show(folder, json=json, family=family)
