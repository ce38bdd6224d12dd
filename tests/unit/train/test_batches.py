"""The sampler: every sample once, whatever the cut; W ranks use the samples of one with W times as much."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biject.errors import ConfigError
from biject.train.batches import Sampler

sizes = st.integers(1, 7)


def flat(step: list[list[list[int]]]) -> list[int]:
    return [sample for rank in step for batch in rank for sample in batch]


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 120), batch=sizes, accumulate=sizes, ranks=sizes, epoch=st.integers(0, 3))
def test_every_sample_once(count: int, batch: int, accumulate: int, ranks: int, epoch: int) -> None:
    many = Sampler(num_samples=count, batch_size=batch, accumulate=accumulate, num_ranks=ranks, seed=5)
    steps = many.steps(epoch)
    assert sorted(chain.from_iterable(map(flat, steps))) == list(range(count))
    assert all(len(step) == ranks for step in steps)
    assert all(len(rank) <= accumulate and all(len(b) <= batch for b in rank) for s in steps for rank in s)
    one = Sampler(num_samples=count, batch_size=batch * accumulate * ranks, seed=5)
    assert [flat(step) for step in one.steps(epoch)] == [flat(step) for step in steps]
    assert len(steps) == len(many.steps(0))


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=100),
    budget=st.integers(30, 90),
    accumulate=sizes,
    ranks=sizes,
)
def test_a_token_budget_counts_padding(lengths: list[int], budget: int, accumulate: int, ranks: int) -> None:
    kinds = {"num_samples": len(lengths), "lengths": lengths, "max_tokens": budget, "seed": 1}
    steps = Sampler(**kinds, accumulate=accumulate, num_ranks=ranks).steps(0)
    assert sorted(chain.from_iterable(map(flat, steps))) == list(range(len(lengths)))
    for batch in (b for step in steps for rank in step for b in rank):
        assert len(batch) * max(lengths[i] for i in batch) <= budget
    one = Sampler(**kinds, accumulate=accumulate * ranks).steps(0)
    assert [sorted(flat(step)) for step in one] == [sorted(flat(step)) for step in steps]


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = [Sampler(num_samples=50, seed=seed).order(epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4
    assert Sampler(num_samples=50).order(1) == orders[1]
    assert Sampler(num_samples=5, shuffle=False).order(3) == [0, 1, 2, 3, 4]


def test_a_token_budget_mixes_anew_each_epoch() -> None:
    sampler = Sampler(num_samples=60, lengths=list(range(1, 61)), max_tokens=60)
    first, second = ([flat(step) for step in sampler.steps(epoch)] for epoch in (0, 1))
    assert first != second


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="lengths"):
        Sampler(num_samples=3, max_tokens=10).steps(0)
    with pytest.raises(ConfigError, match="11 tokens"):
        Sampler(num_samples=2, max_tokens=10, lengths=[3, 11]).steps(0)
