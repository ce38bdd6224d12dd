"""Samples as they are shown: what is learned, by task; texts of single tokens."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biject.data.features import build_dataset
from biject.data.preview import Preview, preview, token_texts
from biject.tokenization.tokenizer import Tokenizer


def see(
    tokenizer: Tokenizer, rows: list[dict[str, Any]], task: str, index: int = 0, **options: Any
) -> Preview:
    return preview(build_dataset(rows, task, tokenizer, **options).dataset, tokenizer, index)


def learned(found: Preview) -> list[tuple[str, str]]:
    return [(token.text.strip(), token.label) for token in found.tokens if token.learned]


def test_classes(tokenizer: Tokenizer) -> None:
    rows = [{"text": "the fox", "label": "good"}, {"text": "the dog", "label": "bad"}]
    found = see(tokenizer, rows, "seqcls")
    assert (found.label, found.num_learned) == ("good", 0)
    assert "".join(token.text for token in found.tokens) == "[CLS] the fox [SEP]"
    several = [{"text": "a", "label": ["x", "y"]}, {"text": "b", "label": []}]
    assert [see(tokenizer, several, "seqcls", i).label for i in (0, 1)] == ["x, y", "none"]
    assert see(tokenizer, [{"text": "a", "label": 0.5}, {"text": "b", "label": 1.5}], "seqcls").label == "0.5"


def test_tags(tokenizer: Tokenizer) -> None:
    rows = [{"tokens": ["the", "quickest", "fox"], "ner_tags": ["O", "B-X", "I-X"]}]
    assert learned(see(tokenizer, rows, "tokcls")) == [("the", "O"), ("quick", "B-X"), ("fox", "I-X")]


def test_answers(tokenizer: Tokenizer) -> None:
    rows = [
        {"question": "the dog", "context": "the lazy dog jumps",
         "answers": {"text": ["lazy dog"], "answer_start": [4]}},
        {"question": "the dog", "context": "the lazy fox", "answers": {"text": [], "answer_start": []}},
    ]  # fmt: skip
    assert learned(see(tokenizer, rows, "qa")) == [("lazy", ""), ("dog", "")]
    without = see(tokenizer, rows, "qa", 1)
    assert (without.label, without.num_learned) == ("no answer here", 0)


def test_masks(tokenizer: Tokenizer) -> None:
    rows = [{"text": "the quick brown fox jumps over the lazy dog"}]
    found = see(tokenizer, rows, "mlm", share=0.9)
    names = {label for _, label in learned(found)}
    assert names
    assert names <= {"the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog"}


def test_a_rows_first_token_is_read(letters: Tokenizer) -> None:
    found = see(letters, [{"text": "abc"}, {"text": "de"}], "causal", max_length=20, packing=True)
    marks = [(token.text, token.learned, token.starts) for token in found.tokens]
    end = ("<|endoftext|>", True, False)
    assert marks == [
        ("a", False, True), ("b", True, False), ("c", True, False), end,
        ("d", False, True), ("e", True, False), end,
    ]  # fmt: skip
    assert found.to_json()["learned"] == [own for _, own, _ in marks]
    assert found.num_learned == 5


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="ab é日🙂👍🏽\n", max_size=20))
def test_tokens_make_up_the_text(letters: Tokenizer, text: str) -> None:
    ids = letters([text]).input_ids[0]
    parts = token_texts(letters, ids)
    assert "".join(parts) == text
    assert len(parts) == len(ids)


def test_half_a_letter_is_shown_as_nothing_until_it_is_whole(letters: Tokenizer) -> None:
    ids = letters(["a日b"]).input_ids[0]
    assert token_texts(letters, ids) == ["a", "", "", "日", "b"]
    assert token_texts(letters, ids[:3]) == ["a", "", ""]
    assert token_texts(letters, [*ids[2:], *ids])[-5:] == ["a", "", "", "日", "b"]


@pytest.mark.parametrize("text", ["the quickest fox, a dog.", "the [MASK] dog"])
def test_words_of_pieces(tokenizer: Tokenizer, text: str) -> None:
    parts = token_texts(tokenizer, tokenizer([text]).input_ids[0])
    assert "".join(parts).replace(" ", "") == f"[CLS]{text}[SEP]".replace(" ", "")
