"""`biject predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from biject.cli.flags import Json, Switch, model_of, names
from biject.errors import InputError


def predict(
    folder: Annotated[str, Parameter(name="DIR")],
    /,
    *texts: Annotated[str, Parameter(name="TEXT")],
    file: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    text_column: Annotated[str | None, Parameter(metavar="A[,B]")] = None,
    delimiter: Annotated[str | None, Parameter(metavar="CHARACTER")] = None,
    out: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    pair: Annotated[str | None, Parameter(name=["--pair", "--context"], metavar="TEXT")] = None,
    task: Literal["auto", "fill-mask", "classify", "tag", "answer", "embed", "classify-pictures"] = "auto",
    top_k: Annotated[int | None, Parameter(metavar="N")] = None,
    aggregation: Literal["none", "simple", "first", "average", "max"] | None = None,
    stride: Annotated[int | None, Parameter(metavar="TOKENS")] = None,
    max_answer_length: Annotated[int | None, Parameter(metavar="TOKENS")] = None,
    null_answer: Switch = False,
    pooling: Literal["auto", "mean", "cls", "max"] | None = None,
    batch_size: Annotated[int, Parameter(metavar="N")] = 16,
    device: Annotated[str, Parameter(metavar="NAME")] = "cpu",
    family: Annotated[str | None, Parameter(metavar="NAME")] = None,
    backend: Literal["biject", "hf"] = "biject",
    json: Json = False,
) -> int:
    """Run a checkpoint on texts or pictures: fill masks, classify, tag, answer or embed, by its head.

    Texts, or files and folders of pictures, come from the arguments, else from --file, else from standard
    input.

    Args:
        folder: A folder of a checkpoint, an adapter or a training run, or a repository on the Hub.
        texts: Texts; for `answer`, questions; for pictures, files and folders.
        file: A table (.csv, .tsv, .jsonl, .json, .parquet), or one text a line (any other name).
        text_column: Column of the text, two for pairs, or of the picture; left out, `text` (and `text_pair`),
            `question` and `context`, or the column with the longest texts; `image`, `file_name` and the like.
        delimiter: Between the columns of a .csv file; left out, what the file plainly has.
        out: Write results there, beside the table's columns: .csv, .jsonl or .parquet; .npy for embeddings.
        pair: The second text of every pair: the context of every question, for `answer`.
        task: What to do; `auto` follows the head. Any checkpoint can `embed`.
        top_k: How many tokens (5), labels (1; of a picture 5) or answers (1) to give.
        aggregation: For `tag`: how tokens become entities; `none`, the default, gives tokens.
        stride: For long texts in `tag` and `answer`: tokens that neighbouring windows share.
        max_answer_length: For `answer`: the most tokens in one (15).
        null_answer: For `answer`: allow that there is none.
        pooling: For `embed`: how rows become a vector; `auto` is the folder's own, else the mean.
        batch_size: Texts that run together.
        device: Where the model runs, e.g. cpu or cuda.
        family: The `model_type` of a folder whose config.json names none.
        backend: `hf` computes with transformers' own class: any of its architectures.
    """
    from biject.cli.picture_inputs import read_pictures, reads_pictures
    from biject.cli.prediction_files import check_out, check_results, write_predictions
    from biject.cli.texts import read_inputs

    columns = names(text_column, flag="--text-column")
    if reads_pictures(model_of(folder), family):
        if pair is not None:
            raise InputError("--pair has no meaning for pictures.")
        inputs, given_items = read_pictures(texts, file=file, column=columns, delimiter=delimiter)
    else:
        inputs = read_inputs(texts, file=file, pair=pair, text_column=columns, delimiter=delimiter)
        given_items = list(inputs.items)
    if out is not None:
        check_out(out)
    options = {
        "top_k": top_k,
        "aggregation": aggregation,
        "stride": stride,
        "max_answer_length": max_answer_length,
        "null_answer": null_answer or None,
        "pooling": pooling,
    }
    given = {name: value for name, value in options.items() if value is not None}

    from biject.cli.predictions import print_predictions, print_written
    from biject.tasks.pipeline import pipeline

    pipe = pipeline(
        model_of(folder), task=task, family=family, device=device, batch_size=batch_size, backend=backend
    )
    _check(given, pipe.takes, pipe.name)
    layout = check_results(out, pipe.name, inputs, top_k=top_k) if out is not None else ()
    results = pipe(given_items, **given)
    if out is None:
        print_predictions(folder, pipe.name, inputs, results, as_json=json)
    else:
        write_predictions(out, inputs, results, layout)
        print_written(folder, pipe.name, out, len(results), as_json=json)
    return 0


def _check(given: dict[str, Any], takes: tuple[str, ...], task: str) -> None:
    """A flag that would have no effect is an error."""
    for name in given:
        if name not in takes:
            raise InputError(f"--{name.replace('_', '-')} has no meaning for the task {task}.")
