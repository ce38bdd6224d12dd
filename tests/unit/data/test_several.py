"""Several labels a row are kept as ids: they take no memory for the labels that a row does not have."""

from __future__ import annotations

import hashlib
import pickle
import tracemalloc
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from biject.data.dataset import Dataset, Ids
from biject.data.labelled import renumbered
from biject.data.labels import read_targets
from biject.data.rows import load_rows
from biject.data.several import Several

SIZE = 7
CELLS = st.lists(st.lists(st.integers(0, SIZE - 1), max_size=9), min_size=1, max_size=6)


def dense(cells: Sequence[Sequence[int]], size: int = SIZE) -> list[list[float]]:
    return [[float(label in cell) for label in range(size)] for cell in cells]


def dataset(labels: Any, count: int) -> Dataset:
    names = [f"l{i}" for i in range(SIZE)]
    ids = Ids([i, 5] for i in range(count))
    kind: Any = {"labels": names, "problem_type": "multi_label_classification"}
    return Dataset("seqcls", {"input_ids": ids, "labels": labels}, rows=range(count), **kind)


def digest(data: Dataset) -> str:
    found = hashlib.sha256()
    data.digest_into(found)
    return found.hexdigest()


@given(CELLS)
def test_samples_and_digests_are_those_of_lists(cells: list[list[int]]) -> None:
    several = Several(cells, size=SIZE)
    assert list(several) == several[:] == dense(cells)
    assert several[-1] == dense(cells)[-1]
    ours, lists = dataset(several, len(cells)), dataset(dense(cells), len(cells))
    assert list(ours) == list(lists)
    assert digest(ours) == digest(lists)
    assert list(pickle.loads(pickle.dumps(several))) == dense(cells)


def test_other_numbers() -> None:
    cells = [[0, 3], [], [6]]
    names = ["new", *(f"l{i}" for i in reversed(range(SIZE)))]
    found = renumbered(dataset(Several(cells, size=SIZE), 3), names)
    assert [sample["labels"] for sample in found] == dense([[SIZE, SIZE - 3], [], [1]], SIZE + 1)
    assert found.labels == tuple(names)


def test_labels_are_counted_once_a_row() -> None:
    targets = read_targets(load_rows([{"label": ["b", "a", "b"]}, {"label": []}, {"label": ["b"]}]), "label")
    assert (targets.counts(), list(targets.values)) == (
        {"a": 1, "b": 2},
        [[1.0, 1.0], [0.0, 0.0], [0.0, 1.0]],
    )


def test_labels_that_a_row_does_not_have_take_no_memory() -> None:
    """2000 rows of 3000 labels were 190 MB."""
    table = load_rows([{"label": [f"l{(3 * i + k) % 3000}" for k in range(3)]} for i in range(2000)])
    tracemalloc.start()
    try:
        targets = read_targets(table, "label")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(targets.names) == 3000
    assert peak < 10_000_000


def test_outputs_and_columns_are_kept_as_ids() -> None:
    lists = [[0, 1, 0], [1, 1, 0], [0, 0, 0]]
    outputs = read_targets(load_rows([{"label": cell} for cell in lists]), "label")
    columns = read_targets(
        load_rows([dict(zip("abc", cell, strict=True)) for cell in lists]), ("a", "b", "c")
    )
    for targets in (outputs, columns):
        assert isinstance(targets.values, Several)
        assert list(targets.values) == lists
