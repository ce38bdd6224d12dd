"""`biject verify-export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from biject.cli.flags import Json, Names, Switch, model_of, names


def verify_export(
    folder: Annotated[Path, Parameter(name="DIR")],
    /,
    *,
    source: Annotated[str | None, Parameter(metavar="REPO|DIR")] = None,
    prompt: Annotated[str | None, Parameter(metavar="TEXT")] = None,
    level: Names = None,
    allow: Names = None,
    backend: Literal["biject", "hf"] = "biject",
    verbose: Switch = False,
    json: Json = False,
) -> int:
    """Prove that a folder is the model that it claims to be.

    Every level has a gate, and the exit code is 1 where one failed. transformers is the judge: it has
    to be installed, as `pip install 'biject[verify]'` does. Without a source, the level `lint` looks
    for what is wrong with any checkpoint. If requested, `steps` compares optimizer steps with a plain
    loop over HF's model, and `faults` proves that the other levels can fail. An adapter's folder has
    the levels `stored` and `adapter`: PEFT on HF's base is the judge there.

    Args:
        folder: The exported folder, an adapter's, or a training run's.
        source: What it was made from; without it, levels that need a source are listed as not checked.
            For an adapter, its base.
        prompt: A text to compare outputs on, besides the built-in inputs.
        level: Names, or `all`; if left out: names, bytes, reload, hf-forward, forward, gradients, tokenizer.
        allow: Differences that pass though the export does not declare them: cast, config, files, text.
        backend: `hf` for any architecture of transformers: levels reload and forward alone.
        verbose: Print every check, and versions, threads and times.
    """
    levels = names(level, flag="--level")
    from biject.checkpoint.hub import resolve_folder
    from biject.cli.report import print_report
    from biject.verify import verify_export as verify

    source_folder = None if source is None else resolve_folder(source)
    report = verify(
        Path(model_of(str(folder))),
        source=source_folder,
        prompt=prompt,
        levels=levels,
        allow=names(allow, flag="--allow") or (),
        backend=backend,
    )
    return print_report(report, json=json, verbose=verbose)
