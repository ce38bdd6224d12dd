"""Rows of several texts to samples and batches: columns by their names, prompts, labels, padding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from biject.data.columns import ColumnCollator, ColumnsDataset, columns_alone
from biject.data.features import build_dataset
from biject.data.preview import preview
from biject.data.rerank import QUERY, without_truth
from biject.data.rows import load_rows
from biject.data.text_columns import find_columns
from biject.errors import InputError
from biject.tokenization.tokenizer import Tokenizer, load_tokenizer

from .conftest import write_letters


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load_tokenizer(write_letters(tmp_path_factory.mktemp("letters")))


def columns(**values: Any) -> Any:
    return load_rows([values])


@pytest.mark.parametrize(
    ("names", "kind", "texts", "label"),
    [
        (("anchor", "positive"), "pairs", ("anchor", "positive"), None),
        (("id", "anchor", "positive", "negative"), "triplets", ("anchor", "positive", "negative"), None),
        (
            ("negative_2", "query", "positive", "negative_1"),
            "triplets",
            ("query", "positive", "negative_2", "negative_1"),
            None,
        ),
        (("question", "answer"), "pairs", ("question", "answer"), None),
        (("sentence1", "sentence2", "score"), "scored", ("sentence1", "sentence2"), "score"),
        (("premise", "hypothesis", "score"), "scored", ("premise", "hypothesis"), "score"),
        (("text", "label"), "labelled", ("text",), "label"),
        (("sentence", "labels"), "labelled", ("sentence",), "labels"),
    ],
)
def test_names(names: tuple[str, ...], kind: str, texts: tuple[str, ...], label: str | None) -> None:
    found = find_columns(columns(**dict.fromkeys(names, "a")), None, None)
    assert (found.kind, found.texts, found.label) == (kind, texts, label)


def test_columns_that_are_named() -> None:
    rows = columns(x="a", y="b", z="c", w="0.5")
    assert find_columns(rows, ("x", "y"), None).kind == "pairs"
    assert find_columns(rows, ("x", "y", "z"), None).kind == "triplets"
    assert find_columns(rows, ("x", "y"), "w").kind == "scored"
    assert find_columns(rows, "x", "w").kind == "labelled"
    with pytest.raises(InputError, match="has no column 'v'"):
        find_columns(rows, ("x", "v"), None)
    with pytest.raises(InputError, match="no columns of usual names"):
        find_columns(rows, None, None)
    with pytest.raises(InputError, match="has negatives"):
        find_columns(columns(anchor="a", positive="b", negative="c", label="1"), None, None)


def test_classes_are_no_scores(letters: Tokenizer) -> None:
    row = {"premise": "a", "hypothesis": "b", "label": 2}
    for task in ("embed", "rerank"):
        with pytest.raises(InputError, match="classes as a rule, not scores"):
            build_dataset([row], task, letters)
    scored = build_dataset([row], "embed", letters, label_column="label")
    assert scored.dataset[0]["labels"] == 2.0
    names = {"label": ("entailment", "neutral", "contradiction")}
    for texts in (("premise", "hypothesis"), ("text1", "text2")):
        rows = replace(columns(**dict.fromkeys(texts, "a"), label=0), class_names=names)
        for task in ("embed", "rerank"):
            with pytest.raises(InputError, match="expected scores, found numbers of classes, 'entailment'"):
                build_dataset(rows, task, letters, label_column="label")
    two = replace(columns(text1="a", text2="b", label=1), class_names={"label": ("no", "yes")})
    assert build_dataset(two, "embed", letters).dataset[0]["labels"] == 1.0


def test_samples_and_batches(letters: Tokenizer) -> None:
    rows = [{"anchor": "ab", "positive": "c"}, {"anchor": "d", "positive": "abcd"}]
    built = build_dataset(rows, "embed", letters)
    data = built.dataset
    assert isinstance(data, ColumnsDataset)
    assert (len(data), data.num_columns, data.text_lengths) == (2, 2, [[2, 1], [1, 4]])
    assert data.lengths == [3, 5]
    batch = ColumnCollator.of(letters)([data[0], data[1]])
    assert batch["input_ids"].shape == (4, 4)  # anchors first
    assert batch["attention_mask"].sum(1).tolist() == [2, 1, 1, 4]
    assert int(batch["columns"]) == 2
    alone = columns_alone([data[0], data[1]], 3)
    assert [len(one["input_ids"]) for one in alone] == [2, 1]
    starts = [token.starts for token in preview(data, letters, 0).tokens]
    assert starts == [True, False, True]
    assert "pairs: anchor, positive" in built.report.lines()


def test_prompts_are_counted(letters: Tokenizer) -> None:
    rows = [{"anchor": "A", "positive": "C"}]
    built = build_dataset(rows, "embed", letters, prompts=("q ", "dd "), lower_case=True)
    sample = built.dataset[0]
    assert sample["prompt_tokens"] == [2, 3]  # this tokenizer puts no token behind a text
    assert sample["input_ids"][0] == letters("q a").input_ids[0]
    batch = ColumnCollator.of(letters)([sample, sample])
    assert (
        batch["prompt_tokens"].tolist() == [sample["prompt_tokens"][0]] * 2 + [sample["prompt_tokens"][1]] * 2
    )


def test_labels(letters: Tokenizer) -> None:
    scored = build_dataset([{"text1": "a", "text2": "b", "label": "0.5"}], "embed", letters)
    assert scored.dataset[0]["labels"] == 0.5
    named = build_dataset([{"text": "a", "label": x} for x in ("n", "m", "n", 3)], "embed", letters)
    assert [named.dataset[i]["labels"] for i in range(4)] == [0, 1, 0, 2]
    assert named.labels == ()
    with pytest.raises(InputError, match="row 2, column `label`: expected a label, found none"):
        build_dataset([{"text": "a", "label": "x"}, {"text": "a", "label": " "}], "embed", letters)


def test_what_is_cut_and_what_is_refused(letters: Tokenizer) -> None:
    rows = [{"anchor": "abcdefgh", "positive": "c"}]
    built = build_dataset(rows, "embed", letters, max_length=5)
    assert built.report.num_cut == 1
    assert built.dataset[0]["input_ids"][0] == letters("abcde").input_ids[0]
    with pytest.raises(InputError, match="column `anchor`: the text has 8 tokens"):
        build_dataset(rows, "embed", letters, max_length=5, truncate=False)
    with pytest.raises(InputError, match="column `positive`: expected a text, found an empty one"):
        build_dataset([{"anchor": "a", "positive": ""}], "embed", letters)
    kept = build_dataset([{"anchor": "a", "positive": ""}, *rows], "embed", letters, skip_bad_rows=True)
    assert len(kept.dataset) == 1
    assert kept.dataset.rows == [0]


def test_rerank(letters: Tokenizer, tmp_path: Path) -> None:
    rows = [
        {"query": "a", "positive": "b", "negative": "c"},
        {"query": "a", "positive": "d", "negative": "e"},
    ]
    built = build_dataset(rows, "rerank", letters)
    data = built.dataset
    assert [data[i]["labels"] for i in range(4)] == [1.0, 0.0, 1.0, 0.0]
    assert [data[i][QUERY] for i in range(4)] == [0, 0, 0, 0]
    assert data.rows == [0, 0, 1, 1]
    assert data[1]["input_ids"] == letters("a", "c").input_ids[0]
    assert set(without_truth(data, 2)[0]) == set(data[0]) - {"labels", QUERY}
    with pytest.raises(InputError, match="a reranker learns from"):
        build_dataset([{"query": "a", "document": "b"}], "rerank", letters)
    scored = [{"query": "a", "document": "b", "score": 4}]
    with pytest.raises(InputError, match="between 0 and 1, found 4"):
        build_dataset(scored, "rerank", letters)
    assert build_dataset(scored, "rerank", letters, probabilities=False).dataset[0]["labels"] == 4.0


def test_the_digest_tells_columns_apart(letters: Tokenizer) -> None:
    import hashlib

    def digest(rows: list[dict[str, str]], **options: Any) -> str:
        found = hashlib.sha256()
        build_dataset(rows, "embed", letters, **options).dataset.digest_into(found)
        return found.hexdigest()

    two = [{"anchor": "a", "positive": "b"}, {"anchor": "c", "positive": "d"}]
    four = [{"query": "a", "positive": "b", "negative": "c", "negative_2": "d"}]
    assert digest(two) != digest(four)
    assert digest(two) != digest(two, prompts=("a", ""))
    assert digest(two) == digest(two)
