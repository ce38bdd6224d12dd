"""A slice of `make fuzz`: about a thousand inputs over all kinds, and the whole of it as a slow test."""

from __future__ import annotations

import random

import pytest

from . import mutate
from .fuzz import KINDS, run

pytestmark = pytest.mark.attack("bytes turned at random")


@pytest.mark.parametrize("kind", KINDS)
def test_slice(kind: str) -> None:
    tally = run({kind: range(72)})[kind]
    assert sum(tally.words.values()) == 72
    assert not tally.bad, tally.bad[:3]
    if "pickle" not in kind:  # nearly any change of a pickle breaks it
        assert len(tally.words) > 1, "all ended alike: the mutations are too weak or too strong"


@pytest.mark.slow
def test_twenty_thousand() -> None:
    tallies = run(dict.fromkeys(KINDS, range(1_000_000, 1_000_000 + 20_000 // len(KINDS) + 1)))
    assert sum(sum(tally.words.values()) for tally in tallies.values()) >= 20_000
    assert not [finding for tally in tallies.values() for finding in tally.bad]


def test_a_number_gives_one_input() -> None:
    data = b'{"a": [1, 2, {"b": "c"}], "d": null}'
    for mutation in (mutate.json_, mutate.bytes_, mutate.lines):
        first, again = (mutation(random.Random("x 1"), data) for _ in range(2))
        assert first == again
