"""`Rows`: a table whose rows know their place, for error messages."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, TypeVar

from biject.errors import InputError, shown

_LISTED = 20  # columns that a message names
_Value = TypeVar("_Value")
_Read = TypeVar("_Read")


class RowError(InputError):
    """One row cannot be used; the others may be.

    Attributes:
        number: The row's number in its source.
        others: What is wrong with further rows, where more than the first are wanted (`Rows.wanted`).
    """

    def __init__(self, message: str, *, number: int, others: Iterable[RowError] = ()) -> None:
        super().__init__(message)
        self.number = number
        self.others = tuple(others)

    @property
    def all(self) -> tuple[RowError, ...]:
        """This one and the others."""
        return (self, *self.others)


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows of a table.

    Attributes:
        source: The file, or another origin of the rows, as messages name it.
        columns: All names, in the order of their first use.
        records: One mapping a row; in JSON a row may lack columns.
        numbers: The number of each row in `source`.
        unit: What `numbers` count: `line` of a file, `record` of a JSON list, `row` of anything else.
        class_names: Names of classes by column, where the source has numbers and knows what they mean.
        skipped: What was wrong with rows that were left out.
        wanted: How many rows that cannot be used are looked for before they are raised, all in one error.
    """

    source: str
    columns: tuple[str, ...]
    records: Sequence[Mapping[str, Any]]
    numbers: Sequence[int]
    unit: str = "row"
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    wanted: int = 1

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self.records[index]

    def place(self, index: int, column: str | None = None) -> str:
        """Where a value is: ``train.csv, line 7, column `label```."""
        row = f"{self.source}, {self.unit} {self.numbers[index]}"
        return row if column is None else f"{row}, column `{column}`"

    def fault(self, index: int, column: str, what: str) -> RowError:
        """The error about one value."""
        return RowError(f"{self.place(index, column)}: {what}", number=self.numbers[index])

    def each(self, values: Iterable[_Value], read: Callable[[int, _Value], _Read]) -> list[_Read]:
        """What `read` makes of the place and the value of each of some values: of rows, columns or parts.

        Raises:
            RowError: Of the first row that cannot be used, or of up to `wanted`.
        """
        made: list[_Read] = []
        faults: list[RowError] = []
        for place, value in enumerate(values):
            try:
                made.append(read(place, value))
            except RowError as error:
                if self.wanted == 1:
                    raise
                faults.extend(error.all)
                if len(faults) >= self.wanted:
                    break
        if faults:
            raise together(faults)
        return made

    def faults(self, rows: Iterable[int], column: str, what: Callable[[int], str]) -> RowError:
        """The error about some rows, of which there is one at least, by what is wrong with each."""
        return together([self.fault(row, column, what(row)) for row in islice(rows, self.wanted)])

    def column(self, name: str) -> list[Any]:
        """All values of a column.

        Raises:
            InputError: There is no such column (the message names the nearest), or a row lacks it.
        """
        if name not in self.columns:
            near = difflib.get_close_matches(name, self.columns, n=1, cutoff=0.5)
            hint = f" Did you mean `{near[0]}`?" if near else ""
            raise InputError(f"{self.source} has no column {shown(name)}; it has {self.named()}.{hint}")
        lacking = [index for index, record in enumerate(self.records) if name not in record]
        if lacking:
            raise self.faults(
                lacking,
                name,
                lambda row: f"this {self.unit} lacks it; it has {_listed(tuple(self.records[row]))}.",
            )
        return [record[name] for record in self.records]

    def values(self, name: str) -> list[Any]:
        """All values of a column, None where a row lacks it.

        Raises:
            InputError: There is no such column.
        """
        return [record.get(name) for record in self.records] if name in self.columns else self.column(name)

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


def together(faults: Sequence[RowError]) -> RowError:
    """Errors about rows as one, which says what the first says."""
    return RowError(str(faults[0]), number=faults[0].number, others=faults[1:])


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
