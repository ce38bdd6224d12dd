"""What `Reranker.predict` takes for pairs, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from biject.errors import InputError
from biject.tasks.reranker import Reranker
from biject.verify.reference import make_reference

PAIRS = [("the plot", "a good plot"), ("bad", "worse words")]


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Reranker:
    folder = make_reference("bert", "seqcls", tmp_path_factory.mktemp("reranker") / "model")
    return Reranker.from_pretrained(folder)


@pytest.mark.parametrize(
    "given",
    [
        [list(pair) for pair in PAIRS],
        tuple(PAIRS),
        np.array(PAIRS),
        [{"query": first, "document": second} for first, second in PAIRS],
        [PAIRS[0], {"document": PAIRS[1][1], "query": PAIRS[1][0]}],
    ],
    ids=["lists", "a tuple", "an array", "mappings", "mixed"],
)
def test_pairs(reranker: Reranker, given: Any) -> None:
    assert np.array_equal(reranker.predict(given), reranker.predict(PAIRS))


@pytest.mark.parametrize("given", [PAIRS[0], list(PAIRS[0]), {"query": PAIRS[0][0], "document": PAIRS[0][1]}])
def test_one_pair(reranker: Reranker, given: Any) -> None:
    assert np.array_equal(reranker.predict(given), reranker.predict(PAIRS[:1])[0])


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("ab", "item 1 is str 'ab'"),
        (["ab", "cd", "ef"], "item 1 is str 'ab'"),
        ([PAIRS[0], "cd"], "item 2 is str 'cd'"),
        ([{"text": "a", "text_pair": "b"}], "item 1 is dict"),
        ([{"query": "a"}], "item 1 is dict"),
        ([("a", "b", "c")], "item 1 is tuple"),
        ([("a", 1)], "item 1 is tuple"),
        ([None], "item 1 is NoneType"),
    ],
)
def test_what_is_no_pair(reranker: Reranker, given: Any, found: str) -> None:
    with pytest.raises(InputError, match=f"predict takes pairs `query`, `document`; {found}"):
        reranker.predict(given)
