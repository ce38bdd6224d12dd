"""Parquet files by pyarrow alone, for rows whose classes need no names."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from biject.data.table import Rows
from biject.errors import InputError, MissingExtraError, shown


def pyarrow(module: str, *, purpose: str) -> Any:
    """A module of pyarrow.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(f"{purpose} needs pyarrow: pip install 'biject[data]'.") from error


def read_parquet(path: Path) -> Rows:
    """All rows of a file.

    Raises:
        InputError: It cannot be read, or has no rows.
        MissingExtraError: pyarrow is not installed.
    """
    parquet = pyarrow("pyarrow.parquet", purpose=f"{path}: it")
    if not path.is_file():
        raise InputError(f"{path}: no such file.")
    try:
        table = parquet.read_table(path)
        names, records = tuple(table.column_names), table.to_pylist()
    except (OSError, ValueError, pyarrow("pyarrow", purpose="Parquet").ArrowException) as error:
        raise InputError(f"{path} cannot be read as Parquet: {shown(str(error))}.") from error
    if not records:
        raise InputError(f"{path} has no rows.")
    return Rows(source=str(path), columns=names, records=records, numbers=range(1, len(records) + 1))
