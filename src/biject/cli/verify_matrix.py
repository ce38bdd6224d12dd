"""`biject verify-matrix`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from biject.cli.flags import Json, Names, names
from biject.errors import InputError


def verify_matrix(
    *,
    families: Names = None,
    heads: Names = None,
    weights: Literal["tiny", "base", "hub"] = "tiny",
    lock: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    keep: Annotated[Path | None, Parameter(metavar="DIR")] = None,
    transformers: Annotated[str | None, Parameter(metavar="A,B,…")] = None,
    env_dir: Annotated[Path | None, Parameter(metavar="DIR")] = None,
    constraints: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    json: Json = False,
) -> int:
    """Verify every family with every head on checkpoints made on the spot or pinned.

    transformers makes each reference with fixed seeds (or the Hub gives it), Biject exports it and
    checks the export as verify-export does. A failure does not stop the rest; the exit code is 1
    where a cell failed. With --transformers each release writes, loads and computes in a process of its
    own; where it differs from Biject, and what it changed since the release before it, is listed.

    Args:
        families: Families, as `biject families` lists them; all where left out.
        heads: Heads out of base, seqcls, tokcls, qa, mlm, imgcls, distilled, rtd, causal; all where left out.
        weights: `tiny` references, the families' published `base` sizes, or public repositories of the `hub`.
        lock: Pins the repositories' revisions at first use; else BIJECT_HUB_LOCK or `biject-hub.lock`.
        keep: Leave the references, exports and reports in this folder.
        transformers: Compare releases, e.g. 4.57.6,5.0,installed; pip makes an environment for each, once.
        env_dir: Where those environments are kept; else in BIJECT_CACHE or the user's cache folder.
        constraints: A pip constraints file for them.
    """
    chosen_families = names(families, flag="--families")
    chosen_heads = names(heads, flag="--heads")
    if transformers is not None:
        from biject.cli.watch_releases import watch_releases

        if weights != "tiny" or lock is not None:
            raise InputError(
                "--transformers compares `tiny` weights; --weights and --lock do not go with it."
            )
        return watch_releases(
            names(transformers, flag="--transformers") or (),
            families=chosen_families,
            heads=chosen_heads,
            env_dir=env_dir,
            constraints=constraints,
            keep=keep,
            json=json,
        )
    if env_dir is not None or constraints is not None:
        raise InputError("--env-dir and --constraints are about environments: they need --transformers.")
    from biject.cli.console import print_document
    from biject.cli.report import print_cell, print_matrix
    from biject.verify import verify_matrix as verify

    result = verify(
        families=chosen_families,
        heads=chosen_heads,
        weights=weights,
        lock=lock,
        keep=keep,
        on_cell=None if json else print_cell,
    )
    if json:
        print_document(result.to_json())
    else:
        print_matrix(result)
    return 0 if result.passed else 1
