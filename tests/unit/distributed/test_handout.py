"""Every sample once, whatever the speeds; shares near what speeds ask for."""

from __future__ import annotations

import json
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from biject.config.sync import SyncConfig
from biject.distributed.handout import Pool, split
from biject.distributed.shares import Shares
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


def latest(costs: list[int], shares: list[float], parts: tuple[int, ...]) -> float:
    ends = np.cumsum([0, *parts])
    return max(sum(costs[a:b]) / w for (a, b), w in zip(pairwise(ends.tolist()), shares, strict=True))


@given(
    st.lists(st.integers(9, 16), min_size=8, max_size=14), st.lists(st.floats(1, 3), min_size=2, max_size=3)
)
def test_no_cut_by_tokens_ends_much_earlier(costs: list[int], shares: list[float]) -> None:
    """Against all cuts: within the 1 % that another cut has to gain, and the twelve halvings.

    Where every rank has room for the longest item: else the one that each must get decides.
    """
    assume(sum(costs) / sum(shares) * min(shares) >= max(costs))
    inner = range(1, len(costs))
    cuts = ([*ends, len(costs)] for ends in combinations(inner, len(shares) - 1))
    best = min(latest(costs, shares, (ends[0], *(b - a for a, b in pairwise(ends)))) for ends in cuts)
    assert latest(costs, shares, tuple(cut(costs, shares))) <= 1.02 * best


def test_a_slow_rank_has_no_item_that_the_fast_one_would_wait_for() -> None:
    """Of 64 items at 8.5 : 1 the nearest cut gives the slow one 7, which end at 7, the others' 57 at 6.7."""
    assert cut([1] * 64, [8.5, 1.0]) == [58, 6]
    assert cut([1] * 30, [1.0, 1.0, 1.0]) == [10, 10, 10]


def test_work_is_counted_in_what_predicts_the_time() -> None:
    """Rows padded to one length: samples; packed rows: tokens. Either way both ranks end together soon."""
    draw = np.random.default_rng(0)
    for per_token in (False, True):
        shares = Shares(2, SyncConfig())
        for _ in range(12):
            samples = np.asarray([40.0, 20.0])
            tokens = samples * draw.uniform(25, 65, 2)
            work = tokens if per_token else samples
            shares.report((work * [1.0, 2.0]).tolist(), tokens.tolist(), samples.tolist())
        assert shares.by_samples is not per_token
        # Work and time are proportional here; what is left is the rounding of a fit over twelve steps.
        assert shares.weights.tolist() == pytest.approx([2 / 3, 1 / 3], rel=1e-12)
        again = Shares(2, SyncConfig())
        again.restore(json.loads(json.dumps(shares.state())))
        assert again.state() == shares.state()


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
