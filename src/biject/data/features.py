"""`build_dataset`: rows to samples, for each task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from biject.data.causal import build_causal
from biject.data.dataset import Built
from biject.data.mlm import build_mlm
from biject.data.qa import build_qa
from biject.data.rows import load_rows
from biject.data.seqcls import build_seqcls
from biject.data.table import Rows
from biject.data.tokcls import build_tokcls
from biject.errors import InputError
from biject.tokenization.tokenizer import Tokenizer

_TASKS: dict[str, Callable[..., Built]] = {
    "seqcls": build_seqcls,
    "tokcls": build_tokcls,
    "qa": build_qa,
    "mlm": build_mlm,
    "causal": build_causal,
}


def build_dataset(
    rows: Rows | str | Path | Iterable[Mapping[str, Any]], task: str, tokenizer: Tokenizer, **options: Any
) -> Built:
    """Make samples of rows.

    Args:
        rows: What `load_rows` gives, or takes.
        task: `seqcls`, `tokcls`, `qa`, `mlm` or `causal`.
        tokenizer: What `load_tokenizer` gives.
        **options: `text_column`; `label_column`; `labels`, classes that exist already by their ids (those of
            the training data, for evaluation); `max_length` in tokens, `tokenizer.model_max_length` where
            left out; `truncate`, False to refuse longer texts. Further ones by task: `problem_type` and
            `label_separator` (seqcls), `label_all` (tokcls), `stride` (qa), `seed`, `share` and `whole_words`
            (mlm), those of `biject.data.causal.build_causal`.

    Returns:
        The data set, its labels by id, and the report.

    Raises:
        InputError: What is wrong in which file, row and column.
    """
    if task not in _TASKS:
        raise InputError(f"task: expected {', '.join(_TASKS)}; found {task!r}.")
    table = rows if isinstance(rows, Rows) else load_rows(rows)
    return _TASKS[task](table, tokenizer, **options)
