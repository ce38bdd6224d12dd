"""The rows of a recipe as samples, and the part of them that is held out for evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from biject.config.model import ProblemType
from biject.config.recipe import FinetuneRecipe
from biject.config.tasks import EMBEDDINGS, PREFERENCES
from biject.data.dataset import Built, Dataset, Sample
from biject.data.features import build_dataset
from biject.data.rows import load_rows
from biject.data.split import split_rows
from biject.data.table import RowError, Rows
from biject.data.text_columns import find_columns
from biject.errors import InputError
from biject.runs.sentences import data_options
from biject.tokenization.tokenizer import Tokenizer

_CAUSAL = {
    "messages_column": None,
    "system_column": None,
    "packing": False,
    "pieces": True,
    "end_of_text": True,
}
"""Settings of causal models alone, and what they are where nobody set them."""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """What is trained on, what is evaluated on (None for nothing), and what the reader should know.

    Attributes:
        rows: The table that `train` was made of, for messages.
        num_cut: Texts of it that were cut at the limit.
        data: `train`, or the whole that it is a part of.
    """

    train: Sequence[Sample]
    evaluation: Sequence[Sample] | None
    labels: tuple[str, ...]
    problem_type: ProblemType | None
    train_lines: tuple[str, ...]
    eval_lines: tuple[str, ...]
    rows: Rows
    num_cut: int
    data: Dataset


class Part(Sequence[Sample]):
    """Some samples of a data set."""

    def __init__(self, whole: Dataset, indices: Sequence[int]) -> None:
        self.whole, self.indices = whole, indices
        self.lengths = [whole.lengths[i] for i in indices]

    def digest_into(self, digest: Any) -> None:
        """The whole, and which of its samples these are."""
        self.whole.digest_into(digest)
        digest.update(repr(list(self.indices)).encode())

    def set_epoch(self, epoch: int) -> None:
        """Tell the whole."""
        self.whole.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any) -> Any:
        return self.whole[self.indices[index]]


def read_samples(
    recipe: FinetuneRecipe,
    tokenizer: Tokenizer,
    *,
    limit: int | None,
    known: tuple[str, ...] | None,
    problem_type: ProblemType | None,
) -> Samples:
    """Read and tokenize the recipe's rows.

    Args:
        recipe: Names files and columns.
        tokenizer: Makes the tokens.
        limit: Tokens of a sample.
        known: Labels, where the model or the recipe fixes them.
        problem_type: The same for the kind of classification.

    Raises:
        InputError: What is wrong, in which file, row and column.
    """
    options = _options(recipe, limit=limit, problem_type=problem_type)
    rows = _load(recipe, recipe.data, recipe.data_split)
    eval_rows: Rows | None = None
    if recipe.eval_data is not None:
        eval_rows = _load(recipe, recipe.eval_data, recipe.eval_split)
    if eval_rows is None and recipe.validation > 0 and recipe.task in ("seqcls", "tokcls"):
        return _one_table(recipe, tokenizer, rows, known, options)
    if eval_rows is None and recipe.validation > 0:
        rows, eval_rows = split_off(recipe, rows)
    built = _build(recipe, tokenizer, rows, known, options)
    evaluation: Built | None = None
    if eval_rows is not None:
        later = {**options, **_resolved(built.dataset)}
        evaluation = _build(recipe, tokenizer, eval_rows, built.labels or None, later, fixed=known is None)
    return Samples(
        train=built.dataset,
        evaluation=None if evaluation is None else evaluation.dataset,
        labels=built.labels,
        problem_type=built.dataset.problem_type,
        train_lines=tuple(built.report.lines()),
        eval_lines=() if evaluation is None else tuple(evaluation.report.lines()),
        rows=rows,
        num_cut=built.report.num_cut,
        data=built.dataset,
    )


def _load(recipe: FinetuneRecipe, source: str, split: str) -> Rows:
    try:
        return load_rows(
            source,
            split=split,
            subset=recipe.data_subset,
            sample_by=recipe.sample_by,
            delimiter=recipe.delimiter,
            skip_bad_rows=recipe.skip_bad_rows,
        )
    except InputError as error:
        raise with_way_out(error) from error


def with_way_out(error: InputError) -> InputError:
    """The error about one row, and how to leave such rows out."""
    if not isinstance(error, RowError):
        return error
    return InputError(f"{error} `skip_bad_rows = true` (--skip-bad-rows) leaves such rows out.")


def label_way_out(error: InputError, recipe: FinetuneRecipe, *, own: bool) -> InputError:
    """The error about one row or label, and what to do; `own`: labels are those of the model's own head."""
    if not own or recipe.labels or "unknown label" not in str(error):
        return with_way_out(error)
    return InputError(
        f"{error} These are the labels of the model's own head; `new_head = true` in the recipe starts a "
        "new one with those of the data."
    )


def _one_table(
    recipe: FinetuneRecipe,
    tokenizer: Tokenizer,
    rows: Rows,
    known: tuple[str, ...] | None,
    options: dict[str, Any],
) -> Samples:
    """Labels are found in all rows; then some of them are held out."""
    built = _build(recipe, tokenizer, rows, known, options)
    eval_rows = set(split_off(recipe, rows)[1].numbers)
    outside = [rows.numbers[row] in eval_rows for row in built.dataset.rows]
    train = Part(built.dataset, [i for i, out in enumerate(outside) if not out])
    evaluation = Part(built.dataset, [i for i, out in enumerate(outside) if out])
    return Samples(
        train=train,
        evaluation=evaluation,
        labels=built.labels,
        problem_type=built.dataset.problem_type,
        train_lines=(*built.report.lines(), f"{len(train)} samples to train on"),
        eval_lines=(f"{len(evaluation)} samples, held out from {rows.source}",),
        rows=rows,
        num_cut=built.report.num_cut,
        data=built.dataset,
    )


def split_off(recipe: FinetuneRecipe, rows: Rows) -> tuple[Rows, Rows]:
    """Split rows off: labels in proportion, questions about one context together."""
    label = recipe.label_column
    if label is None:
        label = next((name for name in ("label", "labels") if name in rows.columns), None)
    by_label = isinstance(label, str) and recipe.task in ("seqcls", "imgcls")
    group = "context" if recipe.task == "qa" and "context" in rows.columns else None
    if group is not None and len({str(value) for value in rows.values(group)}) == 1:
        group = None
    if recipe.task == "rerank":  # documents of one query are ranked together
        group = find_columns(rows, recipe.text_column, label if isinstance(label, str) else None).texts[0]
    split = split_rows(
        rows,
        recipe.validation,
        seed=recipe.train.seed,
        label_column=label if by_label and isinstance(label, str) else None,
        group_column=group,
    )
    return split.train, replace(split.validation, skipped=())


def _options(
    recipe: FinetuneRecipe, *, limit: int | None, problem_type: ProblemType | None
) -> dict[str, Any]:
    """What `build_dataset` takes for the task; a setting without effect is an error."""
    columns = {"text_column": recipe.text_column, "label_column": recipe.label_column}
    strange = [name for name, usual in _CAUSAL.items() if getattr(recipe, name) != usual]
    if strange and recipe.task != "causal":
        raise InputError(f"{strange[0]} has no meaning for the task {recipe.task}.")
    if recipe.task in (*PREFERENCES, *EMBEDDINGS):
        own = data_options(recipe) if recipe.task in EMBEDDINGS else {}
        return {"max_length": limit, "truncate": recipe.truncate, **columns, **own}
    both = ("text_column", "label_column")
    takes: dict[str, tuple[str, ...]] = {"seqcls": both, "tokcls": both, "causal": both, "qa": ()}
    options: dict[str, Any] = {"max_length": limit, "truncate": recipe.truncate}
    for name, value in columns.items():
        if value is None:
            continue
        if name not in takes.get(recipe.task, ("text_column",)):
            raise InputError(f"{name} has no meaning for the task {recipe.task}.")
        pair = recipe.task == "causal" and name == "text_column"
        if not isinstance(value, str) and recipe.task != "seqcls" and not pair:
            if len(value) != 1:
                raise InputError(f"{name}: the task {recipe.task} takes one column, found {len(value)}.")
            value = value[0]
        options[name] = value
    if recipe.task == "seqcls":
        options |= {"problem_type": problem_type, "label_separator": recipe.label_separator}
    elif recipe.task == "tokcls":
        options["label_all"] = recipe.label_all
    elif recipe.task == "qa":
        options["stride"] = recipe.stride
    elif recipe.task == "causal":
        options |= {name: getattr(recipe, name) for name in ("stride", *_CAUSAL)}
    else:
        seed, share = recipe.train.seed, recipe.mask_share
        options |= {"seed": seed, "share": share, "whole_words": recipe.whole_words}
    return options


def _resolved(dataset: Dataset) -> dict[str, Any]:
    return {} if dataset.problem_type is None else {"problem_type": dataset.problem_type}


def _build(
    recipe: FinetuneRecipe,
    tokenizer: Tokenizer,
    rows: Rows,
    labels: tuple[str, ...] | None,
    options: dict[str, Any],
    *,
    fixed: bool = False,
) -> Built:
    try:
        return build_dataset(
            rows, recipe.task, tokenizer, labels=labels, skip_bad_rows=recipe.skip_bad_rows, **options
        )
    except InputError as error:
        raise label_way_out(error, recipe, own=labels is not None and not fixed) from error
