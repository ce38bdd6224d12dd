"""`biject push`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from biject.cli.flags import Json, Switch


def push(
    folder: Annotated[Path, Parameter(name="DIR")],
    repo: Annotated[str, Parameter(name="REPO")],
    /,
    *,
    public: Switch = False,
    source: Annotated[str | None, Parameter(metavar="REPO|DIR")] = None,
    no_verify: Switch = False,
    backend: Literal["biject", "hf"] | None = None,
    json: Json = False,
) -> int:
    """Verify a model and upload it to the Hub as one commit; private, unless told otherwise.

    The exit code is 1 where the verification fails; nothing is uploaded then. A push that was interrupted
    is repeated: what has arrived is not sent twice. The token is `HF_TOKEN`, or that of `hf auth login`.

    Args:
        folder: A run's folder, one of its checkpoints, or any model's.
        repo: Where to, e.g. `me/my-model`; it is made where it does not exist.
        public: Everybody may see it.
        source: What the folder was made from, to compare with that, too.
        backend: `hf` for any architecture of transformers; left out, that of the run.
        no_verify: Upload what was not verified; the card and the commit say so.
    """
    from biject.cli.console import print_json, print_lines
    from biject.runs.push import push as run

    done = run(folder, repo, private=not public, verify=not no_verify, source=source, backend=backend)
    if json:
        print_json(done.to_json())
    else:
        lines = ["NOT CHECKED before the upload"] if done.report is None else done.report.summary()
        print_lines([*lines, f"PUSHED {done.folder} to {done.url}" if done.url else "NOT PUSHED"])
    return 0 if done.url else 1
