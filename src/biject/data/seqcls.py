"""Texts and pairs of texts with a class, several classes, or a number."""

from __future__ import annotations

from collections.abc import Sequence

from biject.config.model import ProblemType
from biject.data.dataset import Built, Dataset
from biject.data.labels import read_targets
from biject.data.table import Rows
from biject.data.texts import Cut, TextColumn, find_column, read_texts, tokenize
from biject.errors import InputError
from biject.tokenization.tokenizer import Tokenizer

_TEXT, _LABEL = ("text", "sentence"), ("label", "labels")


def build_seqcls(
    rows: Rows,
    tokenizer: Tokenizer,
    *,
    text_column: TextColumn | None = None,
    label_column: str | Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    problem_type: ProblemType | None = None,
    label_separator: str | None = None,
    max_length: int | None = None,
    truncate: bool = True,
) -> Built:
    """One sample a row; see `biject.data.features.build_dataset`."""
    columns = (
        (find_column(rows, None, _TEXT, "text_column"),)
        if text_column is None
        else ((text_column,) if isinstance(text_column, str) else tuple(text_column))
    )
    if len(columns) not in (1, 2):
        raise InputError(f"text_column: expected one column, or two for pairs, found {len(columns)}.")
    texts = [read_texts(rows, column) for column in columns]
    label_column = label_column if label_column else find_column(rows, None, _LABEL, "label_column")
    targets = read_targets(
        rows, label_column, names=labels, problem_type=problem_type, separator=label_separator
    )
    cut = Cut(max_length=max_length if max_length is not None else tokenizer.model_max_length)
    tokens = tokenize(tokenizer, rows, *texts, column=columns[0], cut=cut, truncate=truncate)
    dataset = Dataset(
        "seqcls",
        {**tokens.columns(), "labels": targets.values},
        rows=range(len(rows)),
        labels=targets.names,
        problem_type=targets.problem_type,
    )
    return Built(dataset, dataset.labels, cut.report(rows, dataset, counts=targets.counts()))
