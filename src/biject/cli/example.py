"""`biject example`."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from biject.errors import InputError

_PLACES = (Path(__file__).parents[1] / "_examples", Path(__file__).parents[3] / "examples")
"""In an installed package, and in a checkout."""


def example(
    name: Annotated[str | None, Parameter(name="NAME")] = None,
    /,
    *arguments: Annotated[str, Parameter(name="ARGUMENTS", allow_leading_hyphen=True)],
    show: bool = False,
) -> int:
    """List the examples, or run one of them with its arguments.

    Args:
        name: Which one; left out, all are listed.
        arguments: What it takes, e.g. a checkpoint's folder.
        show: Print its source instead.
    """
    from biject.cli.console import print_lines

    found = _examples()
    if name is None:
        width = max(len(one) for one in found)
        print_lines([f"{one:<{width}}  {_what(path)}" for one, path in found.items()])
        return 0
    if name not in found:
        raise InputError(f"There is no example {name!r}; there are {', '.join(found)}.")
    if show:
        print_lines(found[name].read_text(encoding="utf-8").splitlines())
        return 0
    return subprocess.run([sys.executable, str(found[name]), *arguments]).returncode


def _examples() -> dict[str, Path]:
    for folder in _PLACES:
        paths = sorted(folder.glob("*.py")) if folder.is_dir() else []
        if paths:
            return {path.stem: path for path in paths}
    raise InputError("This installation has no examples.")


def _what(path: Path) -> str:
    """The first line of its docstring, without the name of the folder it is in."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    line = text.partition("\n")[0]
    return line.replace(f"python examples/{path.name}", f"biject example {path.stem}")
