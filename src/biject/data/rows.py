"""`load_rows`: labelled text from wherever it lies, as rows that know their place for error messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from biject.config.recipe import TextUnit
from biject.data.readers import READERS, Table, read_plain
from biject.errors import InputError, shown

_MORE = {".parquet": "Parquet"}
_LISTED = 20  # columns that a message names


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows of a table.

    Attributes:
        source: The file, or what else the rows came from, as messages name it.
        columns: All names, in the order of their first use.
        records: One mapping a row; in JSON a row may lack columns.
        numbers: Where each row stands in `source`.
        unit: What `numbers` count: `line` of a file, `record` of a JSON list, `row` of anything else.
        class_names: Names of classes by column, where the source has numbers and knows what they mean.
    """

    source: str
    columns: tuple[str, ...]
    records: Sequence[Mapping[str, Any]]
    numbers: Sequence[int]
    unit: str = "row"
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self.records[index]

    def place(self, index: int, column: str | None = None) -> str:
        """Where a value stands: ``train.csv, line 7, column `label```."""
        row = f"{self.source}, {self.unit} {self.numbers[index]}"
        return row if column is None else f"{row}, column `{column}`"

    def fault(self, index: int, column: str, what: str) -> InputError:
        """The error about one value."""
        return InputError(f"{self.place(index, column)}: {what}")

    def column(self, name: str) -> list[Any]:
        """All values of a column.

        Raises:
            InputError: There is no such column (the message names the nearest), or a row lacks it.
        """
        if name not in self.columns:
            near = difflib.get_close_matches(name, self.columns, n=1, cutoff=0.5)
            hint = f" Did you mean `{near[0]}`?" if near else ""
            raise InputError(f"{self.source} has no column {shown(name)}; it has {self.named()}.{hint}")
        for index, record in enumerate(self.records):
            if name not in record:
                raise self.fault(index, name, f"this {self.unit} lacks it; it has {_listed(tuple(record))}.")
        return [record[name] for record in self.records]

    def named(self) -> str:
        """The columns, for a message."""
        return _listed(self.columns)

    def take(self, indices: Iterable[int]) -> Rows:
        """Some of the rows, which keep their places."""
        chosen = list(indices)
        return replace(
            self,
            records=[self.records[index] for index in chosen],
            numbers=[self.numbers[index] for index in chosen],
        )


def load_rows(
    source: str | Path | Iterable[Mapping[str, Any]],
    *,
    split: str = "train",
    subset: str | None = None,
    revision: str | None = None,
    streaming: bool = False,
    limit: int | None = None,
    sample_by: TextUnit = "line",
) -> Rows:
    """Read all rows of a table.

    Args:
        source: A `.csv`, `.tsv`, `.jsonl`, `.json` (a list of objects, or SQuAD's form) or `.txt` file (one
            text a line, column `text`); a `.parquet` file, a folder or a data set of the Hub, all three by
            the `datasets` library; or any iterable of mappings.
        split: Of a folder or a Hub data set.
        subset: Of a Hub data set that has several.
        revision: Branch, tag or commit of a Hub data set.
        streaming: Read a Hub data set as it comes instead of downloading it first; with `limit`, no more
            than is needed.
        limit: Take the first rows only.
        sample_by: What is one row of a `.txt` file: a `line`, a `paragraph` (blank lines lie between them) or
            the whole `document`.

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
    if suffix in READERS and not path.is_dir():
        table = READERS[suffix](path) if sample_by == "line" else read_plain(path, sample_by)
        rows = _from_table(str(source), table, limit)
    else:
        from biject.data.hub_rows import from_datasets, is_hub_name

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


def class_names(features: object) -> dict[str, tuple[str, ...]]:
    """The names behind numbers that the `datasets` library's features hold, of a column or of its lists."""
    names = {}
    for column, feature in features.items() if isinstance(features, Mapping) else ():
        inner = getattr(feature, "feature", feature)
        found = getattr(inner, "names", None)
        if found:
            names[str(column)] = tuple(found)
    return names


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(f"`{name[:60]}`" for name in names[:_LISTED]) + more
