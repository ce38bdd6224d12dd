"""`build_dataset`: rows to samples, for each task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from biject.data.causal import build_causal
from biject.data.columns import build_embed
from biject.data.dataset import Built, Dataset
from biject.data.imgcls import PictureDataset, build_imgcls
from biject.data.mlm import build_mlm
from biject.data.picture_rows import load_pictures
from biject.data.preference import build_dpo, build_reward
from biject.data.qa import build_qa
from biject.data.rerank import build_rerank
from biject.data.rows import load_rows
from biject.data.seqcls import build_seqcls
from biject.data.table import RowError, Rows
from biject.data.tokcls import build_tokcls
from biject.errors import InputError
from biject.pictures.processor import ImageProcessor
from biject.tokenization.tokenizer import Tokenizer

_TASKS: dict[str, Callable[..., Built]] = {
    "seqcls": build_seqcls,
    "tokcls": build_tokcls,
    "qa": build_qa,
    "mlm": build_mlm,
    "causal": build_causal,
    "imgcls": build_imgcls,
    "dpo": build_dpo,
    "reward": build_reward,
    "embed": build_embed,
    "rerank": build_rerank,
}


def build_dataset(
    rows: Rows | str | Path | Iterable[Mapping[str, Any]],
    task: str,
    tokenizer: Tokenizer | ImageProcessor,
    *,
    skip_bad_rows: bool = False,
    **options: Any,
) -> Built:
    """Make samples of rows.

    Args:
        rows: What `load_rows` gives, or takes; for imgcls, `load_pictures`.
        task: `seqcls`, `tokcls`, `qa`, `mlm`, `causal`, `imgcls`, `dpo`, `reward`, `embed` or `rerank`.
        tokenizer: What `load_tokenizer` gives; for imgcls, `AutoImageProcessor`.
        skip_bad_rows: Leave out rows that cannot be used, up to a tenth of them (or a hundred); the report
            says how many and which.
        **options: `text_column`; `label_column`; `labels`, classes that exist already by their ids (those of
            the training data, for evaluation); `max_length` in tokens, `tokenizer.model_max_length` where
            left out; `truncate`, False to refuse longer texts. Further ones by task: `problem_type` and
            `label_separator` (seqcls), `label_all` (tokcls), `stride` (qa), `seed`, `share` and `whole_words`
            (mlm), those of `biject.data.imgcls.build_imgcls`, `biject.data.causal.build_causal`,
            `biject.data.preference.build_reward`, `biject.data.columns.build_embed` and
            `biject.data.rerank.build_rerank`.

    Returns:
        The data set, its labels by id, and the report.

    Raises:
        InputError: What is wrong in which file, row and column.
    """
    if task not in _TASKS:
        raise InputError(f"task: expected {', '.join(_TASKS)}; found {task!r}.")
    read = load_pictures if task == "imgcls" else load_rows
    table = rows if isinstance(rows, Rows) else read(rows, skip_bad_rows=skip_bad_rows)
    if not skip_bad_rows:
        return _TASKS[task](table, tokenizer, **options)
    return _without_bad_rows(_TASKS[task], table, tokenizer, options)


def _without_bad_rows(
    build: Callable[..., Built], rows: Rows, tokenizer: Tokenizer | ImageProcessor, options: Mapping[str, Any]
) -> Built:
    """What the good rows give: bad ones are left out, all together that one pass over the table finds."""
    total, most = len(rows), max(_MOST_BAD, len(rows) // 10)
    skipped, kept, alone = list(rows.skipped), list(range(total)), 0
    while True:
        rows = replace(rows, wanted=max(1, most + 1 - len(skipped)))
        try:
            built = build(rows, tokenizer, **options)
            break
        except RowError as error:
            faults = {fault.number: fault for fault in reversed(error.all)}
            hopeless = len(skipped) + len(faults) > most or len(faults) == len(rows)
            if hopeless and alone < _ALONE:
                faults, alone = {error.number: error}, alone + 1
            skipped += [str(faults[number]) for number in rows.numbers if number in faults]
            if len(skipped) > most:
                raise InputError(
                    f"{rows.source}: more than {most} rows cannot be used, too many to be skipped; the last: "
                    f"{skipped[most]}"
                ) from error
            good = [index for index, number in enumerate(rows.numbers) if number not in faults]
            rows, kept = rows.take(good), [kept[index] for index in good]
            if not len(rows):
                raise InputError(
                    f"{rows.source}: none of {total} rows can be used; the last: {skipped[-1]}"
                ) from error
    return _noted(built, kept, skipped) if skipped else built


def _noted(built: Built, kept: Sequence[int], skipped: Sequence[str]) -> Built:
    """What was built with the rows of the whole table, of which it has those `kept`, and with a note."""
    if type(built.dataset) in (
        Dataset,
        PictureDataset,
    ):  # rows of the whole table; other kinds look into their own
        built.dataset.rows = [kept[row] for row in built.dataset.rows]
    else:
        built.dataset.kept = kept
    named = "; ".join(skipped[:_NAMED])
    more = f"; and {len(skipped) - _NAMED} more" if len(skipped) > _NAMED else ""
    note = f"{len(skipped)} rows skipped: {named}{more}"
    return built._replace(report=replace(built.report, notes=(*built.report.notes, note)))


_MOST_BAD = 100
_NAMED = 3
"""Rows that a report names."""
_ALONE = 10
"""So often, where next to nothing is left, the first bad row goes alone: others may be read by it."""
