"""Validation splits: seeded, exact in size, each label in proportion, groups together."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biject.data.rows import load_rows
from biject.data.split import split_rows
from biject.errors import InputError


@given(
    labels=st.lists(st.sampled_from("aaabc"), min_size=2, max_size=80),
    share=st.floats(0.05, 0.95),
    seed=st.integers(0, 5),
)
def test_sizes_and_proportions(labels: list[str], share: float, seed: int) -> None:
    rows = load_rows([{"label": label, "id": i} for i, label in enumerate(labels)])
    split = split_rows(rows, share, seed=seed, label_column="label")
    ids = [[row["id"] for row in part.records] for part in split]
    assert sorted(ids[0] + ids[1]) == list(range(len(labels)))
    assert ids[0] == sorted(ids[0])
    assert len(ids[1]) == min(max(1, int(share * len(labels) + 0.5)), len(labels) - 1)
    if len(set(labels)) <= len(labels) / 2:
        held = Counter(labels[i] for i in ids[1])
        for label, count in Counter(labels).items():
            # largest remainders: within one row of its share (one more where a lone row was spared)
            assert abs(held[label] - len(ids[1]) * count / len(labels)) < 3
    again = split_rows(rows, share, seed=seed, label_column="label")
    assert list(again.validation.numbers) == list(split.validation.numbers)


def test_seeds_differ_and_lone_labels_stay_in_training() -> None:
    rows = load_rows([{"label": "rare" if i == 7 else "ab"[i % 2]} for i in range(40)])
    found = {
        tuple(split_rows(rows, 0.25, seed=s, label_column="label").validation.numbers) for s in range(20)
    }
    assert len(found) == 20
    assert all(8 not in numbers for numbers in found)


def test_groups_stay_together() -> None:
    rows = load_rows([{"context": f"c{i // 4}"} for i in range(40)])
    split = split_rows(rows, 0.2, group_column="context")
    assert not {row["context"] for row in split.train.records} & {
        row["context"] for row in split.validation.records
    }
    assert len(split.validation) == 8
    with pytest.raises(InputError, match="column `context` has one value"):
        split_rows(load_rows([{"context": "c"}] * 3), 0.5, group_column="context")


def test_rows_that_lack_the_column_are_split_too() -> None:
    """Whether they may be left out is not decided here."""
    rows = load_rows(
        [{"x": i, **({} if i == 3 else {"label": "ab"[i % 2], "group": i // 2})} for i in range(20)]
    )
    for options in ({"label_column": "label"}, {"group_column": "group"}):
        assert len(split_rows(rows, 0.2, **options).validation) >= 3
    with pytest.raises(InputError, match="no column 'labell'"):
        split_rows(rows, label_column="labell")


def test_what_cannot_be_split() -> None:
    rows = load_rows([{"label": 0.5}, {"label": [1]}, {"label": 0.25}])
    assert len(split_rows(rows, 0.4, label_column="label").validation) == 1
    with pytest.raises(InputError, match="between 0 and 1"):
        split_rows(rows, 1.0)
    with pytest.raises(InputError, match="too few"):
        split_rows(rows.take([0]))
