"""Tagged words: sub-word alignment, lists and texts, limits, bad rows."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biject.data.features import build_dataset
from biject.errors import InputError
from biject.tokenization.tokenizer import Tokenizer

ROW = {"tokens": ["Berlin", "zoo", "the"], "ner_tags": ["B-LOC", "I-LOC", "O"]}


def test_first_token_of_a_word_has_its_label(tokenizer: Tokenizer) -> None:
    built = build_dataset([ROW, {"tokens": "The dog", "ner_tags": "O O"}], "tokcls", tokenizer)
    assert built.labels == ("B-LOC", "I-LOC", "O")
    assert tokenizer.convert_ids_to_tokens(built.dataset[0]["input_ids"]) == [
        "[CLS]", "berlin", "z", "##o", "##o", "the", "[SEP]",
    ]  # fmt: skip
    assert built.dataset[0]["labels"] == [-100, 0, 1, -100, -100, 2, -100]
    assert built.dataset[1]["labels"] == [-100, 2, 2, -100]
    assert built.report.counts == {"B-LOC": 1, "I-LOC": 1, "O": 3}


def test_label_all_continues_entities(tokenizer: Tokenizer) -> None:
    rows = [{"words": "zoo the", "tags": "B-X O"}, {"words": "zoo ab", "tags": "B-Y I-X"}]
    built = build_dataset(rows, "tokcls", tokenizer, label_all=True)
    assert built.labels == ("B-X", "B-Y", "I-X", "O")
    assert built.dataset[0]["labels"] == [-100, 0, 2, 2, 3, -100]
    assert built.dataset[1]["labels"] == [-100, 1, 1, 1, 2, 2, -100]


def test_limits_and_words_without_tokens(tokenizer: Tokenizer) -> None:
    rows = [ROW, {"tokens": ["\u200b\u00ad", "a"], "ner_tags": ["O", "O"]}]
    built = build_dataset(rows, "tokcls", tokenizer, max_length=5)
    assert built.dataset.lengths == [5, 3]
    assert (built.report.num_cut, built.report.tokens_lost) == (1, 2)
    assert "2 labelled words have no token" in built.report.lines()[-1]
    assert built.dataset[1]["labels"] == [-100, 2, -100]
    with pytest.raises(InputError, match=r"row 1, column `tokens`: the text has 7 tokens.*limit of 5"):
        build_dataset([ROW], "tokcls", tokenizer, max_length=5, truncate=False)


@pytest.mark.parametrize(
    "row, part",
    [
        ({"tokens": ["a"], "ner_tags": ["O", "O"]}, "one label for each of 1 words, found 2"),
        ({"tokens": "", "ner_tags": []}, "found none"),
        ({"tokens": ["a", None], "ner_tags": ["O", "O"]}, "words as texts, found None"),
        ({"tokens": ["a", " "], "ner_tags": ["O", "O"]}, "words as texts"),
        ({"tokens": 3, "ner_tags": ["O"]}, "expected words"),
        ({"tokens": ["a"], "ner_tags": 3}, "list of labels, one a word"),
        ({"tokens": ["a"], "ner_tags": [1]}, "expected str"),
        ({"tokens": ["a"], "ner_tags": [0.5]}, "text or whole number"),
        ({"tokens": ["\udc00"], "ner_tags": ["O"]}, "surrogate"),
        ({"tokens": ["a"]}, "lacks it"),
    ],
)
def test_bad_rows(tokenizer: Tokenizer, row: dict[str, Any], part: str) -> None:
    with pytest.raises(InputError) as caught:
        build_dataset([ROW, row], "tokcls", tokenizer)
    assert "row 2, column `" in str(caught.value)
    assert part in str(caught.value)


def test_unknown_label(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match=r"row 1, column `ner_tags`: unknown label 'B-LOC'; known"):
        build_dataset([ROW], "tokcls", tokenizer, labels=["O", "X"])


WORD = st.text(st.sampled_from("abz-.ß漢"), min_size=1, max_size=5)


@given(
    st.lists(
        st.lists(st.tuples(WORD, st.sampled_from("XYZ")), min_size=1, max_size=9), min_size=1, max_size=4
    )
)
def test_every_word_has_its_label_once(tokenizer: Tokenizer, sentences: list[list[tuple[str, str]]]) -> None:
    rows = [{"words": [w for w, _ in pairs], "tags": [t for _, t in pairs]} for pairs in sentences]
    built = build_dataset(rows, "tokcls", tokenizer, labels="XYZ")
    for pairs, sample in zip(sentences, built.dataset, strict=True):
        kept = ["XYZ"[label] for label in sample["labels"] if label != -100]
        assert kept == [tag for _, tag in pairs]
        assert len(sample["labels"]) == len(sample["input_ids"])
