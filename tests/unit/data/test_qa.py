"""Questions about contexts: SQuAD's forms, windows, answers, bad rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biject.data.features import build_dataset
from biject.data.qa import QaDataset
from biject.data.rows import load_rows
from biject.errors import InputError
from biject.tokenization.tokenizer import Tokenizer

FILLER = "The quick brown fox jumps over the lazy dog. " * 8
CONTEXT = FILLER + "Berlin is the capital."


def row(answer: str | None = "Berlin", **more: Any) -> dict[str, Any]:
    found = {} if answer is None else {"text": [answer], "answer_start": [CONTEXT.index(answer)]}
    empty: dict[str, list[Any]] = {"text": [], "answer_start": []}
    return {"question": "The capital?", "context": CONTEXT, "answers": found or empty, **more}


def test_windows_cover_the_context_and_point_at_the_answer(tokenizer: Tokenizer) -> None:
    built = build_dataset([row(), row(None)], "qa", tokenizer, max_length=48, stride=16)
    dataset = built.dataset
    assert isinstance(dataset, QaDataset)
    assert max(dataset.lengths) == 48
    held = 0
    for i, sample in enumerate(dataset):
        starts, ends = dataset.starts[i], dataset.ends[i]
        first, last = sample["start_positions"], sample["end_positions"]
        if first == last == 0:
            continue
        held += 1
        assert CONTEXT[starts[first] : ends[last]] == "Berlin"
    assert held >= 1
    assert f"{held} of {len(dataset)} windows contain their answer" in built.report.lines()
    covered = {c for i, r in enumerate(dataset.rows) if r == 0 for c in dataset.ends[i]}
    assert len(CONTEXT) in covered
    assert dataset.rows == sorted(dataset.rows)


def test_nested_flat_and_plain_columns_are_the_same(tokenizer: Tokenizer, tmp_path: Path) -> None:
    start = CONTEXT.index("Berlin")
    answer = {"text": "Berlin", "answer_start": start}
    questions = [
        {"id": "a", "question": "The capital?", "answers": [answer]},
        {"id": "b", "question": "None?", "answers": [answer], "is_impossible": True},
    ]
    nested = {
        "version": "2",
        "data": [{"title": "t", "paragraphs": [{"context": CONTEXT, "qas": questions}]}],
    }
    path = tmp_path / "train.json"
    path.write_text(json.dumps(nested))
    rows = load_rows(path)
    assert rows.columns == ("id", "title", "context", "question", "answers")
    assert rows[1]["answers"] == {"text": [], "answer_start": []}
    listed = [{**r, "answers": [answer] if i == 0 else []} for i, r in enumerate(rows.records)]
    plain = [
        {"question": r["question"], "context": CONTEXT, "answer": "Berlin" if i == 0 else "",
         "answer_start": str(start) if i == 0 else ""}
        for i, r in enumerate(rows.records)
    ]  # fmt: skip
    samples = [build_dataset(form, "qa", tokenizer).dataset[:] for form in (rows, listed, plain)]
    assert samples[0] == samples[1] == samples[2]
    assert (samples[0][1]["start_positions"], samples[0][1]["end_positions"]) == (0, 0)


@pytest.mark.parametrize(
    "bad, column, part",
    [
        (row(answers={"text": ["Paris"], "answer_start": [3]}), "answers", "should point at 'Paris', but"),
        (row(answers={"text": ["a", "b"], "answer_start": [3]}), "answers", "two lists of one length"),
        (row(answers={"text": ["a"], "answer_start": [-1]}), "answers", "found 'a' and -1"),
        (row(answers={"text": ["a"], "answer_start": ["x"]}), "answers", "found 'a' and 'x'"),
        (row(answers="Berlin"), "answers", "expected `text` and `answer_start`"),
        (row(answers=None), "answers", "expected `text` and `answer_start`"),
        (row(context=""), "context", "empty"),
        (row(question=None), "question", "found none"),
        (row(question="the " * 46), "question", "46 tokens leave 0 of 48"),
    ],
)
def test_bad_rows(tokenizer: Tokenizer, bad: dict[str, Any], column: str, part: str) -> None:
    with pytest.raises(InputError) as caught:
        build_dataset([row(), bad], "qa", tokenizer, max_length=48)
    assert f"row 2, column `{column}`" in str(caught.value)
    assert part in str(caught.value)


def test_stride_and_absent_answers(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match="stride of 60"):
        build_dataset([row()], "qa", tokenizer, max_length=48, stride=60)
    with pytest.raises(InputError, match="expected answers, found none in 1 rows"):
        build_dataset([row(None)], "qa", tokenizer)
    with pytest.raises(InputError, match="no column 'question'"):
        build_dataset([{"text": "a"}], "qa", tokenizer)


@pytest.mark.parametrize(
    "nested, part",
    [
        ([{"paragraphs": 3}], "article 1: `paragraphs` should be a list"),
        ([{"paragraphs": [{"qas": []}]}], "has no questions"),
        ([{"paragraphs": [{"context": "a"}]}], "paragraph 1: expected an object with `qas`"),
        ([{"paragraphs": [{"context": "a", "qas": [{"answers": []}]}]}], "question 1: expected an object"),
        ([{"paragraphs": [{"context": "a", "qas": ["x"]}]}], "question 1: expected an object"),
        ([{"paragraphs": []}, "x"], "article 2: expected an object"),
    ],
)
def test_bad_nested_files(tmp_path: Path, nested: Any, part: str) -> None:
    path = tmp_path / "dev.json"
    path.write_text(json.dumps({"data": nested}))
    with pytest.raises(InputError) as caught:
        load_rows(path)
    assert part in str(caught.value)
    assert "dev.json" in str(caught.value)


@given(first=st.integers(0, 60), words=st.integers(1, 6), size=st.integers(12, 40))
def test_any_answer_is_found_whole_or_not_at_all(
    tokenizer: Tokenizer, first: int, words: int, size: int
) -> None:
    parts = CONTEXT.split(" ")
    start = len(" ".join(parts[:first])) + (first > 0)
    text = " ".join(parts[first : first + words])
    made = build_dataset(
        [{"question": "fox", "context": CONTEXT, "answers": {"text": [text], "answer_start": [start]}}],
        "qa", tokenizer, max_length=size,
    ).dataset  # fmt: skip
    assert isinstance(made, QaDataset)
    found = 0
    for i, sample in enumerate(made):
        low, high = sample["start_positions"], sample["end_positions"]
        if (low, high) != (0, 0):
            found += 1
            assert CONTEXT[made.starts[i][low] : made.ends[i][high]] == text
    # a stride of half the room: an answer of up to that many tokens is whole somewhere
    assert found or len(tokenizer([text], add_special_tokens=False).input_ids[0]) > (size - 4) // 2
