"""`load_rows`: labelled text from files, the Hub or memory, as rows that know their place for messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from biject.config.recipe import TextUnit
from biject.data.hub_rows import from_datasets, is_hub_name
from biject.data.readers import READERS, Faults, Table, read_delimited, read_plain
from biject.data.table import Rows, class_names
from biject.errors import InputError, shown

_MORE = {".parquet": "Parquet"}


def load_rows(
    source: str | Path | Iterable[Mapping[str, Any]],
    *,
    split: str = "train",
    subset: str | None = None,
    revision: str | None = None,
    streaming: bool = False,
    limit: int | None = None,
    sample_by: TextUnit = "line",
    delimiter: str | None = None,
    skip_bad_rows: bool = False,
) -> Rows:
    """Read all rows of a table.

    Args:
        source: A `.csv`, `.tsv`, `.jsonl`, `.json` (a list of objects, or SQuAD's form) or `.txt` file (one
            text a line, column `text`); `.conll`, `.bio` or `.iob` columns of words and tags; a `.parquet`
            file, a folder or a data set of the Hub, all three by the `datasets` library; or any iterable of
            mappings.
        split: Of a folder or a Hub data set.
        subset: Of a Hub data set that has several.
        revision: Branch, tag or commit of a Hub data set.
        streaming: Read a Hub data set as it comes instead of downloading it first; with `limit`, no more
            than is needed.
        limit: Take the first rows only.
        sample_by: What is one row of a `.txt` file: a `line`, a `paragraph` (blank lines between them) or
            the whole `document`.
        delimiter: Between the columns of a `.csv` or `.tsv` file; left out, commas (or what plainly stands in
            their place) and tabs.
        skip_bad_rows: Leave out rows that cannot be read; `Rows.skipped` says which.

    Raises:
        InputError: What is wrong, in which file and row.
        MissingExtraError: `datasets` is needed and not installed.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit: expected at least 1 row, found {limit}.")
    if not isinstance(source, str | Path):
        return _from_iterable(source, limit)
    path = Path(source).expanduser()
    suffix = path.suffix.lower()
    if path.is_file() and suffix not in (*READERS, *_MORE):
        raise InputError(f"{source}: expected a file that ends in {', '.join((*READERS, *_MORE))}.")
    if sample_by != "line" and suffix != ".txt":
        raise InputError(f"sample_by has a meaning for .txt files only; found {source}.")
    if delimiter is not None and (suffix not in (".csv", ".tsv") or len(delimiter) != 1):
        raise InputError(
            f"delimiter: expected one character, for a .csv or .tsv file; found {shown(delimiter)}."
        )
    if suffix in READERS and not path.is_dir():
        faults = Faults(skip=skip_bad_rows)
        if delimiter is not None:
            table = read_delimited(path, faults, delimiter)
        else:
            table = READERS[suffix](path, faults) if sample_by == "line" else read_plain(path, sample_by)
        rows = replace(_from_table(str(source), table, limit), skipped=tuple(faults))
    else:
        if not path.exists() and not is_hub_name(str(source)):
            raise InputError(f"{source}: no such file or folder.")
        rows = from_datasets(
            str(source), path, split=split, subset=subset, revision=revision, streaming=streaming, limit=limit
        )
    if not len(rows):
        raise InputError(f"{source} has no rows.")
    return rows


def _from_table(source: str, table: Table, limit: int | None) -> Rows:
    return Rows(
        source=source,
        columns=table.columns,
        records=table.records[:limit],
        numbers=table.numbers[:limit],
        unit=table.unit,
    )


def _from_iterable(source: Iterable[Mapping[str, Any]], limit: int | None) -> Rows:
    if isinstance(source, Rows):
        return source.take(range(len(source))[:limit])
    name = f"the given {type(source).__name__}"
    if isinstance(source, Mapping) or not isinstance(source, Iterable):
        raise InputError(f"Rows: expected a file's name or an iterable of mappings, found {name[10:]}.")
    records: list[Mapping[str, Any]] = []
    columns: dict[str, None] = {}
    for record in islice(source, limit):
        if not isinstance(record, Mapping):
            raise InputError(
                f"{name}, row {len(records) + 1}: expected a mapping of column names to values, found "
                f"{type(record).__name__} {shown(record)}."
            )
        columns.update(dict.fromkeys(map(str, record)))
        records.append(record)
    if not records:
        raise InputError(f"{name} has no rows.")
    return Rows(
        source=name,
        columns=tuple(columns),
        records=records,
        numbers=range(1, len(records) + 1),
        class_names=class_names(getattr(source, "features", None)),
    )
