"""Tagged words: sub-word alignment, lists and texts, limits, bad rows."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biject.data.features import build_dataset
from biject.errors import BijectWarning, InputError
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


@pytest.mark.parametrize(
    ("tokens", "tags"),
    [
        ("['The', 'dog']", "['B-X', 'O']"),
        ("""['The', "dog"]""", "['B-X' 'O']"),
        ("['The'\n 'dog']", """["B-X", "O"]"""),
        ("""["The", "d\\u006fg"]""", " ['B-X','O'] "),
        ("""['The', 'd\\x6fg']""", "B-X O"),
    ],
)
def test_lists_that_are_written_as_text(tokens: str, tags: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    """As pandas writes lists and arrays, and as JSON."""
    table = tmp_path / "rows.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["tokens", "ner_tags"], [tokens, tags]])
    built = build_dataset(table, "tokcls", tokenizer)
    assert tokenizer.convert_ids_to_tokens(built.dataset[0]["input_ids"]) == ["[CLS]", "the", "dog", "[SEP]"]
    assert built.dataset[0]["labels"] == [-100, 0, 1, -100]
    assert built.labels == ("B-X", "O")


@pytest.mark.parametrize("tags", ["[1, 0]", "[1 0]", "1 0", "['1', '0']"])
def test_written_numbers_are_ids(tags: str, tokenizer: Tokenizer) -> None:
    with pytest.warns(BijectWarning, match="read as ids"):
        built = build_dataset([{"tokens": "the dog", "tags": tags}], "tokcls", tokenizer, labels=["O", "B-X"])
    assert built.dataset[0]["labels"] == [-100, 1, 0, -100]


def test_brackets_may_be_words(tokenizer: Tokenizer) -> None:
    rows = [{"tokens": "[ dog ]", "tags": "O B-X O"}, {"tokens": "[", "tags": "O"}]
    assert build_dataset(rows, "tokcls", tokenizer).report.counts == {"B-X": 1, "O": 3}


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
        ({"tokens": "[a, b]", "ner_tags": "O O"}, "a list as JSON or Python writes it"),
        ({"tokens": "a b", "ner_tags": "[O, O]"}, "a list as JSON or Python writes it"),
        ({"tokens": "['a' ... 'b']", "ner_tags": "O"}, "a list as JSON or Python writes it"),
        ({"tokens": "['a''b']", "ner_tags": "O"}, "a list as JSON or Python writes it"),
        ({"tokens": "['\\x']", "ner_tags": "O"}, "a list as JSON or Python writes it"),
        ({"tokens": "[" * 100_000 + "]", "ner_tags": "O"}, "a list as JSON or Python writes it"),
        ({"tokens": "[['a']]", "ner_tags": "O"}, "a list as JSON or Python writes it"),
        ({"tokens": '[["a"]]', "ner_tags": "O"}, "words as texts, found ['a']"),
        ({"tokens": "[]", "ner_tags": "[]"}, "found none"),
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
