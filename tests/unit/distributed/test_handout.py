"""Every sample once, whatever the speeds; shares near what speeds ask for."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biject.distributed.handout import Pool, split
from biject.distributed.speeds import Speeds, apportion, cut

weights = st.lists(st.floats(0.01, 100), min_size=1, max_size=9)


@given(st.integers(0, 500), weights)
def test_apportion_adds_up_and_is_within_one(total: int, shares: list[float]) -> None:
    found = apportion(total, shares)
    assert sum(found) == total
    assert min(found) >= (1 if total >= len(shares) else 0)
    exact = [total * share / sum(shares) for share in shares]
    if min(exact) >= 1:
        assert all(abs(a - b) < 1 for a, b in zip(found, exact, strict=True))


@given(st.lists(st.integers(0, 90), max_size=80), weights)
def test_cut_uses_everything_in_order(costs: list[int], shares: list[float]) -> None:
    parts = cut(costs, shares)
    assert len(parts) == len(shares)
    assert sum(parts) == len(costs)
    assert min(parts) >= (1 if len(costs) >= len(shares) else 0)


@given(
    st.lists(st.integers(1, 64), min_size=30, max_size=120), st.lists(st.floats(1, 8), min_size=2, max_size=5)
)
def test_cut_is_by_tokens(costs: list[int], shares: list[float]) -> None:
    """Every end is within half of the longest item of where it should be."""
    ends = np.cumsum(cut(costs, shares))[:-1]
    sums = np.concatenate([[0], np.cumsum(costs)])
    wanted = sums[-1] * np.cumsum(shares)[:-1] / np.sum(shares)
    assert (abs(sums[ends] - wanted) <= max(costs) / 2 + 1e-6).all()


@given(st.integers(1, 90), weights, st.integers(1, 16), st.booleans())
def test_split_uses_every_sample_once(count: int, shares: list[float], batch_size: int, known: bool) -> None:
    lengths = [1 + (7 * i) % 13 for i in range(200)] if known else None
    samples = list(range(100, 100 + count))
    found = split(samples, shares, batch_size=batch_size, lengths=lengths)
    assert [i for rank in found for batch in rank for i in batch] == samples
    assert all(1 <= len(batch) <= batch_size for rank in found for batch in rank)


def test_a_budget_counts_padding() -> None:
    lengths = [3, 9, 9, 2, 8, 8, 1]
    found = split(range(7), [2, 1], batch_size=1, lengths=lengths, max_tokens=18)
    assert [i for rank in found for batch in rank for i in batch] == list(range(7))
    for batch in (batch for rank in found for batch in rank):
        assert len(batch) * max(lengths[i] for i in batch) <= 18


@given(st.integers(1, 300), st.data())
@settings(deadline=None, max_examples=60)
def test_a_pool_hands_out_everything_once(count: int, data: st.DataObject) -> None:
    pool, seen = Pool(count), list[int]()
    ranks = data.draw(st.integers(1, 5))
    while len(pool):
        before = len(pool)
        given_out = pool.take([data.draw(st.integers(1, 40)) for _ in range(ranks)])
        undone = []
        for rank in range(ranks):
            mine = given_out.of(rank)
            done = data.draw(st.integers(min(1, len(mine)), len(mine)))
            seen += mine[:done]
            undone += mine[done:]
        pool.give_back(undone)
        pool = Pool.of(json.loads(json.dumps(pool.state())))
        assert len(pool) < before
    assert sorted(seen) == list(range(count))


def test_the_last_round_is_shared_by_counts() -> None:
    pool = Pool(20)
    assert [pool.take([6, 3]).counts, pool.take([60, 30]).counts] == [[6, 3], [7, 4]]


@pytest.mark.parametrize("left", [[[0, 3], [2, 5]], [[4, 2]], [[0, 99]], [[-2, 3]]])
def test_a_damaged_state_is_refused(left: list[list[int]]) -> None:
    with pytest.raises(ValueError):
        Pool.of({"count": 10, "left": left})


@given(st.lists(st.floats(0.5, 500), min_size=2, max_size=6), st.data())
def test_shares_follow_a_changed_speed_within_three_meetings(ms: list[float], data: st.DataObject) -> None:
    """Any rank becomes up to 8 times slower or faster."""
    speeds = Speeds(len(ms), quick=True)
    for _ in range(4):
        speeds.report(np.asarray(ms) * 7, [7.0] * len(ms))
    rank = data.draw(st.integers(0, len(ms) - 1))
    ms[rank] *= data.draw(st.floats(1 / 8, 8))
    for _ in range(3):
        speeds.report(np.asarray(ms) * 7, [7.0] * len(ms))
    assert speeds.ms[rank] == pytest.approx(ms[rank], rel=0.15)
    ideal = 1 / np.asarray(ms) / (1 / np.asarray(ms)).sum()
    assert speeds.relative().tolist() == pytest.approx(ideal.tolist(), rel=0.15)
