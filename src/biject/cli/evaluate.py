"""`biject evaluate`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from json import dumps
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from biject.cli.flags import Json, Switch, names
from biject.cli.settings import put
from biject.config.recipe import FinetuneTask
from biject.config.recipe_file import make_recipe
from biject.errors import InputError


def evaluate(
    folder: Annotated[str, Parameter(name="DIR")],
    /,
    *,
    data: Annotated[str, Parameter(metavar="FILE|REPO")],
    task: FinetuneTask | None = None,
    text_column: Annotated[str | None, Parameter(metavar="A[,B]")] = None,
    label_column: Annotated[str | None, Parameter(metavar="A[,B,…]")] = None,
    max_length: Annotated[int | None, Parameter(metavar="TOKENS")] = None,
    batch_size: Annotated[int | None, Parameter(metavar="N")] = None,
    device: Annotated[str | None, Parameter(metavar="NAME")] = None,
    backend: Literal["biject", "hf"] | None = None,
    delimiter: Annotated[str | None, Parameter(metavar="CHARACTER")] = None,
    skip_bad_rows: Switch = False,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", metavar="KEY=VALUE")] = (),
    out: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    json: Json = False,
) -> int:
    """Loss and metrics of a checkpoint's own head on labelled rows, as fine-tuning evaluates.

    Labels are the model's: rows that lack one of them, or name them in another order, change nothing.

    Args:
        folder: A folder of a checkpoint or an adapter, of a run folder, or a repository on the Hub.
        data: Rows: .csv, .tsv, .jsonl, .json, .txt, .parquet, .conll (.bio, .iob, .iob2), a folder of
            pictures, or a data set on the Hub.
        task: Left out, the one that the checkpoint's head is for.
        text_column: Column of the text, or of the prompt; two columns for pairs.
        label_column: Column of the label, or of the response.
        max_length: Longer texts are cut there; left out, what the model takes.
        batch_size: Samples that are computed at once (32).
        device: E.g. cpu or cuda; left out, a GPU where there is one.
        backend: `hf` computes with transformers' own class: any of its architectures.
        delimiter: Between the columns of a .csv file; left out, what the file plainly has.
        skip_bad_rows: Leave out rows that cannot be used, and say how many.
        set_: Any other setting of a recipe about data, e.g. `--set label_separator=|`.
        out: Write the numbers there as JSON, too.
    """
    train: dict[str, Any] = {} if batch_size is None else {"batch_size": batch_size}
    text, label = (names(text_column, flag="--text-column"), names(label_column, flag="--label-column"))
    given: dict[str, Any] = {
        "model": _model(folder),
        "data": data,
        "task": task,
        "text_column": text[0] if text and len(text) == 1 else text,
        "label_column": label[0] if label and len(label) == 1 else label,
        "max_length": max_length,
        "device": device,
        "backend": backend,
        "delimiter": delimiter,
        "skip_bad_rows": skip_bad_rows or None,
        "validation": 0.0,
    }
    tables: dict[str, dict[str, Any]] = {"train": train, "preference": {}, "embed": {}}
    put(set_, into=given, **tables)
    if out is not None:
        _check_out(out)
    if given["task"] is None:
        from biject.runs.prepare import task_of

        given["task"] = task_of(given["model"], backend=backend or "biject")
    values = {name: value for name, value in given.items() if value is not None}
    recipe = make_recipe({**values, **tables}, where="The settings")

    from biject.cli.console import print_json, print_lines
    from biject.cli.plain import plain
    from biject.runs.evaluate import evaluate as run

    found = run(recipe)
    document = {"model": folder, "data": data, "task": found.task, "num_samples": found.num_samples,
                "metrics": dict(found.metrics)}  # fmt: skip
    if out is not None:
        _write(out, document)
    if json:
        print_json(document)
        return 0
    print_lines([plain(line) for line in found.lines])
    numbers = ", ".join(f"{name} {value:.4f}" for name, value in found.metrics.items())
    print_lines([f"EVALUATION {found.num_samples} samples: {numbers}"])
    return 0


def _check_out(out: Path) -> None:
    if os.path.lexists(out):
        raise InputError(f"--out {out} exists already: remove it, or choose another name.")
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: there is no folder {out.parent}.")


def _write(out: Path, document: Mapping[str, Any]) -> None:
    """Whole or not at all."""
    temporary = out.with_name(f".{out.name}.biject-{os.getpid()}-new-0")
    try:
        temporary.write_text(dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)


def _model(folder: str) -> str:
    """A run's folder stands for its model, or for its adapter where that is what it wrote."""
    from biject.runs.adapter import ADAPTER
    from biject.runs.folder import MODEL, RECIPE

    run = Path(folder)
    if not (run / RECIPE).is_file():
        return folder
    found = next((run / name for name in (MODEL, ADAPTER) if (run / name).is_dir()), run)
    return str(found)
