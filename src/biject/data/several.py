"""Several labels a row: kept as the ids of those that a row has, given as a 0.0 or 1.0 for each there is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import overload

from biject.data.dataset import Ids


class Several(Sequence[list[float]]):
    """One list of `size` numbers a row, made when it is asked for: 45,000 rows of 4,300 labels are 6 GB.

    Attributes:
        ids: Of each row's labels, in order.
        size: How many labels there are.
    """

    def __init__(self, ids: Iterable[Iterable[int]], *, size: int) -> None:
        self.ids = Ids(sorted(set(row)) for row in ids)
        self.size = size

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> list[float]: ...
    @overload
    def __getitem__(self, index: slice) -> list[list[float]]: ...
    def __getitem__(self, index: int | slice) -> list[float] | list[list[float]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        row = [0.0] * self.size
        for label in self.ids[index]:
            row[label] = 1.0
        return row

    def renumbered(self, new: Sequence[int], *, size: int) -> Several:
        """The same with other ids, `new` by the old ones."""
        return Several(([new[label] for label in row] for row in self.ids.rows), size=size)
