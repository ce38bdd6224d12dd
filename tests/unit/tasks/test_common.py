"""Batches: every row once, longest first, little padding; limits; what a call may be given."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from biject.config.model import EmbeddingConfig
from biject.errors import InputError
from biject.tasks.common import Task, max_tokens
from biject.tasks.inputs import as_pairs, as_texts


def task(*, pad: int | None = 0, batch_size: int = 3, segments: int = 2, **sizes: Any) -> Task:
    """A task without a model, for what needs none."""
    embedding = EmbeddingConfig(
        size=4,
        order=sizes.get("order", ("positions",)),
        position_rule=sizes.get("rule", "arange"),
        max_position_embeddings=sizes.get("positions", 64),
        type_vocab_size=segments,
    )
    made: Any = object.__new__(Task)
    made.model = SimpleNamespace(
        config=SimpleNamespace(embedding=embedding, pad_token_id=pad),
        device=torch.device("cpu"),
    )
    made.tokenizer = SimpleNamespace(pad_token_id=pad, model_max_length=sizes.get("longest"))
    made.batch_size = batch_size
    return made


def rows(*lengths: int) -> Any:
    ids = [[10 * i + 1] * length for i, length in enumerate(lengths)]
    return SimpleNamespace(input_ids=ids, token_type_ids=[[1] * length for length in lengths])


def test_batches() -> None:
    encoded = rows(2, 7, 3, 3, 9, 1, 3)
    found = list(task().batches(encoded))
    assert [batch.lengths for batch in found] == [(9, 7, 3), (3, 3, 2), (1,)]
    assert sorted(row for batch in found for row in batch.rows) == list(range(7))
    for batch in found:
        for i, (row, length) in enumerate(zip(batch.rows, batch.lengths, strict=True)):
            assert batch.input_ids[i, :length].tolist() == encoded.input_ids[row]
            assert not batch.input_ids[i, length:].any()
            assert batch.attention_mask[i].sum() == length
            assert batch.token_type_ids is not None
            assert batch.token_type_ids[i].sum() == length


def test_without_a_padding_token_only_equal_lengths_share_a_batch() -> None:
    found = list(task(pad=None).batches(rows(2, 3, 3, 3, 3, 2)))
    assert [batch.lengths for batch in found] == [(3, 3, 3), (3,), (2, 2)]
    assert all(bool(batch.attention_mask.all()) for batch in found)


def test_a_model_of_one_segment_is_given_none() -> None:
    assert next(task(segments=1).batches(rows(2))).token_type_ids is None


@pytest.mark.parametrize(
    ("sizes", "limit"),
    [
        ({}, 64),
        ({"longest": 50}, 50),
        ({"rule": "after-pad", "pad": 1}, 62),
        ({"order": ()}, None),
        ({"order": (), "longest": 7}, 7),
    ],
)
def test_limits(sizes: dict[str, Any], limit: int | None) -> None:
    one = task(**sizes)
    assert max_tokens(one.model.config, one.tokenizer) == limit


def test_texts() -> None:
    assert as_texts("a", "tag") == ["a"]
    assert as_texts(["a", "b"], "tag") == ["a", "b"]
    for wrong in (("a", "b"), ["a", 3], [None], {"text": "a"}, ["\ud800"]):
        with pytest.raises(InputError, match="text"):
            as_texts(wrong, "tag")


def test_pairs() -> None:
    keys = ("text", "text_pair")
    items = ["a", ("b", "c"), {"text": "d"}, {"text": "e", "text_pair": "f"}]
    expected = (["a", "b", "d", "e"], [None, "c", None, "f"])
    assert as_pairs(items, "classify", keys, needed=False) == expected
    assert as_pairs(("b", "c"), "classify", keys, needed=True) == (["b"], ["c"])
    for wrong in ("a", ("a",), {"text": "a"}, {"text": "a", "pair": "b"}, ("a", 3), 3):
        with pytest.raises(InputError, match="item 1"):
            as_pairs([wrong], "classify", keys, needed=True)
