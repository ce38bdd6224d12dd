"""Parquet files, folders and Hub data sets, by the `datasets` library."""

from __future__ import annotations

import re
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

from biject.data.table import Rows, class_names
from biject.errors import InputError, MissingExtraError, shown

_HUB_NAME = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")


def is_hub_name(name: str) -> bool:
    """Whether a name can be a data set's on the Hub: `name` or `owner/name`, and not a data file's."""
    return bool(_HUB_NAME.fullmatch(name)) and not name.lower().endswith(
        (".csv", ".tsv", ".jsonl", ".json", ".ndjson", ".txt", ".parquet", ".gz", ".zip", ".xlsx")
    )


def from_datasets(
    source: str,
    path: Path,
    *,
    split: str,
    subset: str | None,
    revision: str | None,
    streaming: bool,
    limit: int | None,
) -> Rows:
    """Rows of a local Parquet file or folder, else of the Hub's data set of that name."""
    found = opened(source, path, split=split, subset=subset, revision=revision, streaming=streaming)
    try:
        records = [dict(record) for record in islice(found, limit)]
    except Exception as error:  # the library raises whatever its readers raise
        raise _unreadable(source, error) from error
    features = getattr(found, "features", None) or {}
    columns = tuple(features) or tuple(dict.fromkeys(key for record in records for key in record))
    return Rows(
        source=source,
        columns=columns,
        records=records,
        numbers=range(1, len(records) + 1),
        class_names=class_names(features),
    )


def opened(
    source: str,
    path: Path,
    *,
    split: str,
    subset: str | None = None,
    revision: str | None = None,
    streaming: bool = False,
) -> Any:
    """The `datasets` library's own object; nothing of its rows is read yet.

    Raises:
        InputError: It cannot be read.
        MissingExtraError: `datasets` is not installed.
    """
    try:
        datasets: Any = import_module("datasets")
    except ImportError as error:
        absent = "" if path.exists() else "no such file or folder; as a Hub data set it"
        raise MissingExtraError(
            f"{source}: {absent or 'it'} needs the `datasets` library: pip install 'biject[data]'."
        ) from error
    options: dict[str, Any] = {"split": split, "streaming": streaming}
    if path.is_file():
        call: tuple[Any, ...] = ("parquet",)
        options |= {"data_files": str(path), "split": "train"}
    else:
        call, options = (source, subset), {**options, "revision": revision}
    try:
        if path.is_dir() and (path / "state.json").is_file():
            found: Any = datasets.load_from_disk(str(path))
        elif path.is_dir() and (path / "dataset_dict.json").is_file():
            found = _split_of(datasets.load_from_disk(str(path)), split, source)
        else:
            found = datasets.load_dataset(*call, **options)
    except InputError:
        raise
    except Exception as error:  # the library raises whatever its readers raise
        raise _unreadable(source, error) from error
    return found


def _unreadable(source: str, error: Exception) -> InputError:
    text = next((line for line in str(error).splitlines() if line.strip()), "")
    return InputError(f"{source} cannot be read as a data set: {type(error).__name__}: {shown(text)}.")


def _split_of(found: Any, split: str, source: str) -> Any:
    if split not in found:
        raise InputError(f"{source} has no split {shown(split)}; it has {', '.join(sorted(found))}.")
    return found[split]
