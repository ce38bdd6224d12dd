"""`biject merge`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from biject.cli.flags import Json, Switch, names
from biject.errors import InputError

_LABELS = ("label", "labels")


def merge(
    *,
    adapter: Annotated[str, Parameter(metavar="REPO|DIR")],
    out: Annotated[Path | None, Parameter(metavar="DIR")] = None,
    check: Annotated[Path | None, Parameter(metavar="DIR")] = None,
    base: Annotated[str | None, Parameter(metavar="REPO|DIR")] = None,
    sample: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    text_column: Annotated[str | None, Parameter(metavar="A[,B]")] = None,
    label_column: Annotated[str | None, Parameter(metavar="NAME")] = None,
    quantization: Literal["nf4", "fp4", "int8"] | None = None,
    target: Literal["auto", "original", "dequantised"] = "auto",
    force: Switch = False,
    json: Json = False,
) -> int:
    """Merge an adapter into its base, with a receipt.

    The merged model is written as PEFT merges, and measured against the adapter on its base: largest
    difference, KL, argmax flips, perplexity, accuracy where the sample has labels. The receipt is
    merge_receipt.json in the folder; the exit code is 1 where its verdict is FAIL.

    Args:
        adapter: The adapter's folder, or a repository on the Hub.
        out: The folder to write.
        check: In its place, a merged folder that is there already, to be measured.
        base: The base; left out, the one that the adapter names.
        sample: What to measure on: a table, or one text a line; left out, built-in texts.
        text_column: Column of the text, two for pairs.
        label_column: Column of the class; left out, `label` where there is one.
        quantization: How the base was held in training, where the adapter does not record it.
        target: For an adapter of a quantised base: merge into the original, or into what its codes stand
            for; `auto` is the nearer one.
        force: Replace the folder if it exists.
    """
    if (out is None) == (check is None):
        raise InputError("merge needs --out, the folder to write, or --check, a merged folder to measure.")
    from biject.cli.console import print_json, print_lines
    from biject.cli.plain import plain
    from biject.merging.merge import check_merge
    from biject.merging.merge import merge as run

    options: dict[str, Any] = {"base": base, "quantization": quantization}
    options |= _sample(sample, text_column, label_column)
    if check is not None:
        receipt = check_merge(check, adapter, **options)
    else:
        assert out is not None
        receipt = run(adapter, out, target=target, force=force, **options)
    if json:
        print_json(receipt.to_json())
    else:
        print_lines([plain(line) for line in receipt.lines()])
    return 0 if receipt.passed else 1


def _sample(sample: Path | None, text_column: str | None, label_column: str | None) -> dict[str, Any]:
    """Texts and labels of the user's file."""
    if sample is None:
        if text_column or label_column:
            raise InputError("--text-column and --label-column are for the table that --sample names.")
        return {}
    from biject.cli.texts import read_inputs

    found = read_inputs((), file=sample, text_column=names(text_column, flag="--text-column"))
    columns = (label_column,) if label_column else _LABELS
    column = next((name for name in columns if name in found.columns), None)
    if label_column and column is None:
        raise InputError(f"{sample} has no column {label_column!r}; it has {', '.join(found.columns)}.")
    labels = None if column is None else [record.get(column) for record in found.records]
    return {"texts": found.items, "labels": labels, "sample_name": sample.name}
