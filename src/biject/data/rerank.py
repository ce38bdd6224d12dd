"""Queries with documents and scores, or with right and wrong documents: samples for rerankers.

A sample is a pair of texts in one row, as a classifier of pairs reads it, with one number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from biject.data.dataset import Built, Dataset
from biject.data.table import Rows
from biject.data.text_columns import find_columns, scores
from biject.data.texts import Cut, Tokens, read_texts, tokenize
from biject.errors import InputError
from biject.tokenization.tokenizer import Tokenizer

QUERY = "query"
"""Which query a sample is of: those of one query are ranked among each other."""


def build_rerank(
    rows: Rows,
    tokenizer: Tokenizer,
    *,
    text_column: str | Sequence[str] | None = None,
    label_column: str | None = None,
    labels: Sequence[str] | None = None,
    max_length: int | None = None,
    truncate: bool = True,
    probabilities: bool = True,
) -> Built:
    """One sample a document; see `biject.data.features.build_dataset`.

    Args:
        rows: The table.
        tokenizer: Makes the tokens.
        text_column: Columns of texts: query and document, or query, right document and wrong ones.
        label_column: Column of scores.
        labels: Of no meaning here.
        max_length: Of query and document together, in tokens.
        truncate: False refuses longer ones.
        probabilities: Scores must be between 0 and 1.

    Raises:
        InputError: There is nothing that tells right documents from wrong ones.
    """
    del labels
    found = find_columns(rows, text_column, label_column)
    if found.kind not in ("scored", "triplets"):
        raise InputError(
            f"{rows.source}: a reranker learns from query, document and score, or from query, right "
            f"document and wrong ones; the columns {', '.join(found.texts)} are neither. Name them as "
            "text_column (and label_column)."
        )
    cut = Cut(max_length=max_length if max_length is not None else tokenizer.model_max_length)
    first, *documents = rows.each(found.texts, lambda _, name: read_texts(rows, name))
    targets = _targets(rows, found.label, len(documents), probabilities=probabilities)
    known: dict[str, int] = {}
    queries = [known.setdefault(text, len(known)) for text in first]
    parts = [
        tokenize(tokenizer, rows, first, texts, column=name, cut=cut, truncate=truncate)
        for name, texts in zip(found.texts[1:], documents, strict=True)
    ]
    columns = _interleaved(parts)
    dataset = Dataset(
        "rerank",
        {
            **columns.columns(),
            "labels": [target for row in targets for target in row],
            QUERY: [query for query in queries for _ in parts],
        },
        rows=[row for row in range(len(rows)) for _ in parts],
        labels=("LABEL_0",),
    )
    note = f"{found.kind}: {', '.join((*found.texts, *([found.label] if found.label else [])))}"
    report = cut.report(rows, dataset, notes=(note, f"{len(known)} queries"))
    return Built(dataset, dataset.labels, replace(report, num_samples=len(dataset)))


def _targets(rows: Rows, label: str | None, count: int, *, probabilities: bool) -> list[list[float]]:
    """One number a document: the score, or 1 for the right one and 0 for the others."""
    if label is None:
        return [[1.0] + [0.0] * (count - 1) for _ in range(len(rows))]
    found = scores(rows, label)
    outside = [row for row, value in enumerate(found) if probabilities and not 0 <= value <= 1]
    if outside:
        raise rows.faults(
            outside,
            label,
            lambda row: (
                f"expected a score between 0 and 1, found {found[row]:g}; `embed.rank_loss` MSELoss takes "
                "any."
            ),
        )
    return [[value] for value in found]


def _interleaved(parts: Sequence[Tokens]) -> Tokens:
    """All documents of the first row, then of the next."""
    made = Tokens()
    for row in range(len(parts[0].ids)):
        for part in parts:
            made.add_row(part.ids[row], part.segments[row] if len(part.segments) else None)
    return made


def without_truth(samples: Sequence[Any], most: int) -> list[Any]:
    """Samples without what only a step of their own reads, as a model takes them; at most so many."""
    some = [samples[i] for i in range(min(len(samples), most))]
    return [
        {name: value for name, value in sample.items() if name not in ("labels", QUERY)} for sample in some
    ]
