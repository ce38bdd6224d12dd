"""Dynamic masking: seeded by epoch and sample, the right shares, whole words, nothing special."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biject.data.features import build_dataset
from biject.data.masking import Masking
from biject.data.mlm import MaskedDataset
from biject.errors import InputError
from biject.tokenization.tokenizer import Tokenizer

ROWS = [
    {"text": "The quick brown fox jumps over the lazy zoo. " * 4},
    {"text": "A [MASK] dog"},
    {"text": " "},
]


def build(tokenizer: Tokenizer, **options: Any) -> MaskedDataset:
    dataset = build_dataset(ROWS, "mlm", tokenizer, **options).dataset
    assert isinstance(dataset, MaskedDataset)
    return dataset


def test_seed_epoch_and_sample_decide(tokenizer: Tokenizer) -> None:
    dataset = build(tokenizer)
    assert dataset.rows == [0, 1]
    first = dataset[:]
    assert dataset[:] == first == build(tokenizer)[:]
    dataset.set_epoch(1)
    assert dataset[:] != first
    dataset.set_epoch(0)
    assert dataset[:] == first
    assert build(tokenizer, seed=1)[:] != first


def test_special_tokens_are_never_chosen(tokenizer: Tokenizer) -> None:
    dataset = build(tokenizer)
    special = set(tokenizer.all_special_ids)
    for epoch in range(40):
        dataset.set_epoch(epoch)
        for sample in dataset:
            assert not special & set(sample["labels"])
            assert any(label != -100 for label in sample["labels"])


def test_long_texts_become_several_samples(tokenizer: Tokenizer) -> None:
    built = build_dataset(ROWS, "mlm", tokenizer, max_length=16)
    assert len(built.dataset) > 3
    assert max(built.dataset.lengths) == 16
    assert built.dataset.rows == sorted(built.dataset.rows)
    assert any("1 empty texts" in line for line in built.report.lines())


def test_bad_texts(tokenizer: Tokenizer) -> None:
    for rows, part in (
        ([{"text": 3}], "row 1, column `text`: expected a text, found 3"),
        ([{"text": ""}], "only empty ones"),
        ([{"text": "[MASK]"}], "no token that could be masked"),
    ):
        with pytest.raises(InputError, match=part):
            build_dataset(rows, "mlm", tokenizer)
    with pytest.raises(InputError, match="between 0 and 1"):
        build(tokenizer, share=1.5)
    with pytest.raises(InputError, match="seed"):
        build(tokenizer, seed=-1)


def test_shares() -> None:
    masking = Masking(mask_token_id=4, vocab_size=30_000)
    ids, words = list(range(100, 300)), [-1, *range(198), -1]
    counts = {"chosen": 0, "mask": 0, "kept": 0, "random": 0}
    rounds = 300
    for index in range(rounds):
        out, labels = masking(ids, words, epoch=0, index=index)
        assert labels[0] == labels[-1] == -100
        for old, new, label in zip(ids, out, labels, strict=True):
            if label == -100:
                assert new == old
                continue
            assert label == old
            counts["chosen"] += 1
            counts["mask" if new == 4 else "kept" if new == old else "random"] += 1
    total = rounds * 198
    # Six standard deviations of a binomial count.
    for part, whole, share in (
        ("chosen", total, 0.15),
        ("mask", counts["chosen"], 0.8),
        ("kept", counts["chosen"], 0.1),
        ("random", counts["chosen"], 0.1),
    ):
        assert abs(counts[part] - whole * share) < 6 * (whole * share * (1 - share)) ** 0.5, counts


@given(
    words=st.lists(st.integers(1, 4), min_size=1, max_size=30),
    index=st.integers(0, 1000),
    whole=st.booleans(),
)
def test_whole_words_and_at_least_one(words: list[int], index: int, whole: bool) -> None:
    word_of = [-1, *(word for word, size in enumerate(words) for _ in range(size)), -1]
    masking = Masking(mask_token_id=4, vocab_size=99, whole_words=whole, share=0.2)
    _, labels = masking(range(10, 10 + len(word_of)), word_of, epoch=3, index=index)
    chosen = {word for word, label in zip(word_of, labels, strict=True) if label != -100}
    assert chosen
    assert -1 not in chosen
    if whole:
        assert all((label != -100) == (word in chosen) for word, label in zip(word_of, labels, strict=True))
