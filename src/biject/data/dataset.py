"""`Dataset`: samples of token ids and labels, with their lengths; and the report of how they came about."""

from __future__ import annotations

import copy
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, overload

from biject.config.model import ProblemType

Sample = dict[str, Any]
"""`input_ids`, `token_type_ids` where the model takes them, and `labels` or `start_positions` and
`end_positions`: numbers and lists of numbers.
"""


IGNORED = -100
"""The label that no loss counts."""


class Ids:
    """Rows of integers, four bytes each."""

    def __init__(self, rows: Iterable[Sequence[int]] = ()) -> None:
        self.rows: list[array[int]] = []
        self.extend(rows)

    def append(self, row: Sequence[int]) -> None:
        self.rows.append(array("i", row))

    def extend(self, rows: Iterable[Sequence[int]]) -> None:
        self.rows.extend(array("i", row) for row in rows)

    def __getitem__(self, index: int) -> list[int]:
        return self.rows[index].tolist()

    def __len__(self) -> int:
        return len(self.rows)


class Dataset(Sequence[Sample]):
    """Samples for one head.

    Attributes:
        task: `seqcls`, `tokcls`, `qa`, `mlm`, `causal`, `imgcls`, `dpo` or `reward`.
        labels: Names of the head's outputs by id; empty for qa, mlm, causal and dpo.
        problem_type: Of a classifier or regressor.
        lengths: Tokens of each sample; 1 of a picture.
        rows: For each sample the row of the table it was made of.
        kept: Where bad rows were skipped, for each row that `rows` counts its place in the whole table.
        computed: Columns that a model made of the others: they are no part of what the data are known by, as
            another device or another number of threads gives other last bits.
    """

    kept: Sequence[int] | None = None
    computed: Collection[str] = ()

    def __init__(
        self,
        task: str,
        columns: Mapping[str, Ids | Sequence[Any]],
        *,
        rows: Sequence[int],
        labels: Sequence[str] = (),
        problem_type: ProblemType | None = None,
        lengths: Sequence[int] | None = None,
    ) -> None:
        self.task = task
        self.labels = tuple(labels)
        self.problem_type = problem_type
        self.rows = list(rows)
        self._columns = dict(columns)
        if lengths is not None:
            self.lengths = list(lengths)
            return
        ids = columns["input_ids"]
        assert isinstance(ids, Ids)
        self.lengths = [len(row) for row in ids.rows]

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self.sample(i) for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return self.sample(index % len(self))

    def sample(self, index: int) -> Sample:
        """One sample, `0 <= index < len(self)`."""
        return {name: values[index] for name, values in self._columns.items()}

    def table_row(self, index: int) -> int:
        """The row of the whole table that a sample was made of."""
        row = self.rows[index]
        return row if self.kept is None else self.kept[row]

    def has(self, name: str) -> bool:
        """Whether samples have such a value."""
        return name in self._columns

    def column(self, name: str) -> Ids | Sequence[Any]:
        """One value a sample."""
        return self._columns[name]

    def with_column(self, name: str, values: Ids | Sequence[Any], *, labels: Sequence[str]) -> Dataset:
        """A copy with other values in one column, and the names of their ids."""
        new = copy.copy(self)
        new._columns = {**self._columns, name: values}
        new.labels = tuple(labels)
        return new

    def digest_into(self, digest: Any) -> None:
        """Feed a digest of `hashlib` with everything that samples are made of."""
        digest.update(repr((type(self).__name__, self.task, self.labels, self.problem_type)).encode())
        for name, values in self._columns.items():
            if name in self.computed:
                continue
            digest.update(f"{name} {len(values)} ".encode())
            if isinstance(values, Ids):
                for row in values.rows:
                    digest.update(len(row).to_bytes(4, "little") + row.tobytes())
            else:
                for value in values:
                    digest.update(f"{value!r} ".encode())

    def set_epoch(self, epoch: int) -> None:
        """Tell samples that change from epoch to epoch (masking) which one it is; others stay as they are."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What became of the rows.

    Attributes:
        num_rows: Rows of the table.
        num_samples: Samples made of them (windows, where long texts are read in several).
        lengths: Tokens of each sample.
        max_length: The limit, None for no limit.
        num_cut: Texts that were cut at the limit.
        tokens_lost: Tokens that this took away.
        counts: How often each label occurs.
        notes: What else there is to know.
    """

    num_rows: int
    num_samples: int
    lengths: Sequence[int]
    max_length: int | None
    num_cut: int = 0
    tokens_lost: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The report in words."""
        ordered = sorted(self.lengths)
        out = [
            f"{self.num_rows} rows, {self.num_samples} samples of {ordered[0]} to {ordered[-1]} tokens, half "
            f"of them up to {ordered[(len(ordered) - 1) // 2]}"
        ]
        if self.num_cut:
            share = 100 * self.tokens_lost / (sum(self.lengths) + self.tokens_lost)
            out.append(
                f"{self.num_cut} texts have more than {self.max_length} tokens and are cut there: "
                f"{self.tokens_lost} tokens ({share:.1f} %) are lost"
            )
        if self.counts:
            shown = [f"{name} {count}" for name, count in list(self.counts.items())[:12]]
            more = f" and {len(self.counts) - 12} more" if len(self.counts) > 12 else ""
            out.append("labels: " + ", ".join(shown) + more)
        return [*out, *self.notes]


class Built(NamedTuple):
    """What `build_dataset` gives."""

    dataset: Dataset
    labels: tuple[str, ...]
    report: Report


def count_labels(names: Sequence[str], ids: Sequence[Sequence[int]]) -> dict[str, int]:
    """How often each name occurs, in the order of the names."""
    found = Counter(index for row in ids for index in row)
    return {name: found[index] for index, name in enumerate(names)}
