"""`load_pictures`: rows whose pictures stay where they are until they are needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from biject.data.hub_rows import is_hub_name, opened
from biject.data.picture_folder import METADATA, has_pictures, read_folder, split_folder, split_folders
from biject.data.readers import READERS
from biject.data.rows import load_rows
from biject.data.stored import BytesPicture, CellPicture, Home, PathPicture, bytes_of
from biject.data.table import Rows, class_names
from biject.errors import InputError

USUAL = ("image", "file_name", "img", "picture", "image_path", "path", "file", "filename", "filepath")
"""Names of columns of pictures."""


def load_pictures(
    source: str | Path | Iterable[Mapping[str, Any]],
    *,
    split: str = "train",
    subset: str | None = None,
    revision: str | None = None,
    image_column: str | None = None,
    outside: bool = False,
    delimiter: str | None = None,
    skip_bad_rows: bool = False,
) -> Rows:
    """Rows of pictures and what else there is about them.

    Args:
        source: A folder with a sub-folder a class (in `train`, `validation` and `test` where it has such); a
            `.csv`, `.tsv`, `.jsonl` or `.json` file with a column of paths from the file's folder; a
            `.parquet` file with bytes; a data set of the Hub; or any iterable of mappings.
        split: Of a folder or a Hub data set.
        subset: Of a Hub data set that has several.
        revision: Branch, tag or commit of a Hub data set.
        image_column: Where the pictures stand; left out, the first of the usual names.
        outside: Files outside of the data's folder are read, too.
        delimiter: Between the columns of a `.csv` file.
        skip_bad_rows: Leave out rows that cannot be read.

    Raises:
        InputError: What is wrong, in which file and row.
        MissingExtraError: `datasets` is needed and not installed.
    """
    if not isinstance(source, str | Path):
        if hasattr(source, "features") and hasattr(source, "cast_column"):
            return _of_table(source, "the given data set", image_column, Home.of(Path(), outside=outside))
        rows = load_rows(source, skip_bad_rows=skip_bad_rows)
        return _with_pictures(rows, image_column, Home.of(Path(), outside=outside))
    path = Path(source).expanduser()
    own = (path / "state.json", path / "dataset_dict.json")
    if path.is_dir() and not any(file.is_file() for file in own) and has_pictures(path):
        place = split_folder(path, split)
        table = next((place / name for name in METADATA if (place / name).is_file()), None)
        if table is None:
            return read_folder(path, split=split, outside=outside)
        rows = load_rows(table, skip_bad_rows=skip_bad_rows)
        return _with_pictures(rows, image_column, Home.of(path, outside=outside), start=place)
    if path.suffix.lower() in READERS and not path.is_dir():
        rows = load_rows(source, delimiter=delimiter, skip_bad_rows=skip_bad_rows)
        return _with_pictures(rows, image_column, Home.of(path.parent, outside=outside))
    if not path.exists() and not is_hub_name(str(source)):
        raise InputError(f"{source}: no such file or folder.")
    found = opened(str(source), path, split=split, subset=subset, revision=revision)
    home = Home.of(_folder(path), outside=outside)
    return _of_table(found, str(source), image_column, home)


def validation_of(source: str) -> str | None:
    """The folder of validation pictures that stands beside those for training, or None."""
    path = Path(source).expanduser()
    if not path.is_dir() or any((path / name).is_file() for name in METADATA) or not has_pictures(path):
        return None
    splits = split_folders(path)
    return str(splits["validation"]) if {"train", "validation"} <= splits.keys() else None


def find_image_column(rows: Rows, requested: str | None) -> str:
    """The requested column, else the first of the usual names.

    Raises:
        InputError: There is none.
    """
    if requested is not None:
        return requested
    found = next((name for name in USUAL if name in rows.columns), None)
    if found is None:
        named = ", ".join(f"`{name}`" for name in USUAL[:4])
        raise InputError(
            f"{rows.source} has no column of pictures ({named} …); it has {rows.named()}. Name it as "
            "image_column."
        )
    return found


def _with_pictures(rows: Rows, requested: str | None, home: Home, *, start: Path | None = None) -> Rows:
    """Paths and bytes of a column as pictures; anything else stays, for a message about its row."""
    column = find_image_column(rows, requested)
    home = home if start is None else replace(home, start=start.resolve())
    records = [
        {**record, column: _picture(record[column], rows.place(index, column), home)}
        if column in record
        else record
        for index, record in enumerate(rows.records)
    ]
    return replace(rows, records=records)


def _picture(value: object, place: str, home: Home) -> object:
    path = value.get("path") if isinstance(value, dict) else value
    content = bytes_of(value)
    if content is not None:
        name = Path(path).name if isinstance(path, str) and path else place.rpartition("/")[2]
        return BytesPicture(content, place, name)
    return PathPicture(home, path) if isinstance(path, str) else value


def _folder(path: Path) -> Path:
    """What paths in a table start from: the file's folder; of the Hub, where its files are kept."""
    if path.is_dir():
        return path
    if path.is_file():
        return path.parent
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def _of_table(found: Any, source: str, requested: str | None, home: Home) -> Rows:
    """Rows of the `datasets` library's table; bytes of pictures stay in its mapped file."""
    features: dict[str, Any] = dict(found.features)
    kinds = {name: type(feature).__name__ for name, feature in features.items()}
    column = requested or next((name for name, kind in kinds.items() if kind == "Image"), None)
    empty = Rows(source=source, columns=tuple(features), records=(), numbers=())
    column = find_image_column(empty, column)
    if not len(found):
        raise InputError(f"{source} has no rows.")
    empty.column(column)
    if kinds[column] == "Image":
        found = found.cast_column(column, features[column].__class__(decode=False))
    cells = found.select_columns([column])
    rest = found.remove_columns([column])
    others = [dict(record) for record in rest] if rest.column_names else [{}] * len(cells)
    records = [
        {column: _cell(cells, column, row, source, home), **record} for row, record in enumerate(others)
    ]
    return replace(
        empty, records=records, numbers=range(1, len(records) + 1), class_names=class_names(features)
    )


def _cell(cells: Any, column: str, row: int, source: str, home: Home) -> object:
    """A picture by its bytes, which stay in the table, or by its path where it has none."""
    value, place = cells[row][column], f"{source}, row {row + 1}"
    path = value.get("path") if isinstance(value, dict) else value
    if bytes_of(value) is not None:
        name = Path(path).name if isinstance(path, str) and path else f"row {row + 1}"
        return CellPicture(cells, column, row, place, name)
    if isinstance(path, str) and Path(path).is_relative_to(home.folder):  # the library writes full paths
        return PathPicture(home, str(Path(path).relative_to(home.folder)))
    return _picture(value, place, home)
