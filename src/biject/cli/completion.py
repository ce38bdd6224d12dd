"""`biject completion`."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter


def completion(shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(name="SHELL")], /) -> int:
    """Print a completion script: `source <(biject completion bash)`, `biject completion fish | source`.

    Args:
        shell: Whose.
    """
    from biject.cli.app import build_app
    from biject.cli.console import print_lines

    print_lines(build_app(listing=True).generate_completion(shell=shell).splitlines())
    return 0
