"""Text classification: labels of every kind, pairs, limits, and what is said about bad rows."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biject.data.dataset import Built
from biject.data.features import build_dataset
from biject.data.rows import load_rows
from biject.data.table import Rows
from biject.errors import BijectWarning, InputError
from biject.tokenization.tokenizer import Tokenizer


def build(tokenizer: Tokenizer, column: list[Any], **options: Any) -> Built:
    rows = [{"text": "the fox", "label": label} for label in column]
    return build_dataset(rows, "seqcls", tokenizer, **options)


def values(built: Built) -> list[Any]:
    return [sample["labels"] for sample in built.dataset[:]]


def fails(tokenizer: Tokenizer, rows: Any, *parts: str, task: str = "seqcls", **options: Any) -> None:
    with pytest.raises(InputError) as caught:
        build_dataset(rows, task, tokenizer, **options)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


@pytest.mark.parametrize(
    "labels, names, ids",
    [
        (["pos", "neg", " pos "], ("neg", "pos"), [1, 0, 1]),
        ([3, 1, 20], ("1", "3", "20"), [1, 0, 2]),
        (["10", "9"], ("9", "10"), [1, 0]),
        ([True, False], ("False", "True"), [1, 0]),
        ([1.0, 2], ("1", "2"), [0, 1]),
    ],
)
def test_classes_are_found_and_sorted(
    tokenizer: Tokenizer, labels: list[Any], names: tuple[str, ...], ids: list[int]
) -> None:
    problem = "single_label_classification"
    built = build(tokenizer, labels, problem_type=problem if isinstance(labels[0], float) else None)
    assert built.labels == names
    assert values(built) == ids
    assert built.dataset.problem_type == problem


def test_regression(tokenizer: Tokenizer) -> None:
    for labels in ([0.5, 2, -1], ["0.5", "2", "-1"]):
        built = build(tokenizer, labels)
        assert values(built) == [0.5, 2.0, -1.0]
        assert (built.dataset.problem_type, built.labels) == ("regression", ("LABEL_0",))
    assert values(build(tokenizer, ["1", "2"], problem_type="regression")) == [1.0, 2.0]
    assert values(build(tokenizer, [1, 2], labels=["LABEL_0"])) == [1.0, 2.0]


def scores(count: int, **others: Any) -> list[Any]:
    """Decimal fractions, some of them whole, as texts, with others at given places (`at_3="NA"`)."""
    found: list[Any] = [f"{(i * 7) % 51 / 10:g}" for i in range(count)]
    for place, value in others.items():
        found[int(place.removeprefix("at_"))] = value
    return found


@pytest.mark.parametrize("stray", ["NA", "nan", "n/a", "-"])
def test_a_label_that_is_no_number_makes_no_classes_of_amounts(tokenizer: Tokenizer, stray: str) -> None:
    rows = [{"text": "a", "label": label} for label in scores(60, at_7=stray, at_30="?")]
    parts = ("row 8, column `label`", "expected a number", f"found {stray!r}", "problem_type")
    fails(tokenizer, rows, *parts)
    fails(tokenizer, [{**row, "label": 0.5 if row["label"] != stray else stray} for row in rows], *parts)
    built = build_dataset(rows, "seqcls", tokenizer, skip_bad_rows=True)
    assert (built.dataset.problem_type, len(built.dataset)) == ("regression", 58)
    assert any("2 rows skipped" in line for line in built.report.lines())
    classes = build_dataset(rows, "seqcls", tokenizer, problem_type="single_label_classification")
    assert stray in classes.labels


def test_texts_among_numbers_are_classes_where_they_are_many_or_few_are_fractions(
    tokenizer: Tokenizer,
) -> None:
    others = {f"at_{i}": "none" for i in range(7)}
    for labels in (scores(60, **others), [*["404", "500", "200"] * 20, "3.5", "other"]):
        assert build(tokenizer, labels).dataset.problem_type == "single_label_classification"
    assert build(tokenizer, [*["1", "2"] * 20, "3.5"]).dataset.problem_type == "regression"


def test_several_labels(tokenizer: Tokenizer) -> None:
    for labels, options in (
        ([["b", "a"], [], ["c"]], {}),
        (["b|a", "|", " c"], {"label_separator": "|"}),
    ):
        built = build(tokenizer, labels, **options)
        assert built.labels == ("a", "b", "c")
        assert values(built) == [[1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
        assert built.report.counts == {"a": 1, "b": 1, "c": 1}
    rows = [{"text": "a", "x": "1", "y": 0}, {"text": "b", "x": "0", "y": 0}]
    columns = build_dataset(rows, "seqcls", tokenizer, label_column=("x", "y"))
    assert columns.labels == ("x", "y")
    assert values(columns) == [[1.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize(
    "labels",
    [
        [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]],
        [[1, 0, 1], [0, 1, 1]],
        [[True, False, False], [False, False, True]],
        [[0, 1], [1, 0]],
        [[1, 1], [0, 1]],
    ],
)
def test_lists_of_a_number_for_each_output(tokenizer: Tokenizer, labels: list[list[Any]]) -> None:
    size = len(labels[0])
    built = build(tokenizer, labels)
    assert built.labels == tuple(f"LABEL_{i}" for i in range(size))
    assert values(built) == [[float(value) for value in cell] for cell in labels]
    assert built.dataset.problem_type == "multi_label_classification"
    names = ["z", "b", "c"][:size]
    again = build(tokenizer, labels, labels=names)
    assert (again.labels, values(again)) == (tuple(names), values(built))


def test_lists_of_outputs_that_do_not_fit(tokenizer: Tokenizer) -> None:
    rows = [{"text": "a", "label": [0, 0, 1]}, {"text": "a", "label": [0, 1, 0]}]
    fails(tokenizer, rows, "lists of 2 numbers", "'a', 'b'", "found 3 numbers", labels=["a", "b"])
    ragged = [*rows, {"text": "a", "label": [0, 1]}]
    fails(tokenizer, ragged, "row 3, column `label`", "expected 3 numbers", "found 2")
    assert values(build_dataset(ragged, "seqcls", tokenizer, skip_bad_rows=True)) == [[0, 0, 1], [0, 1, 0]]


def test_lists_of_two_classes_are_no_outputs(tokenizer: Tokenizer) -> None:
    assert build(tokenizer, [[0, 1], [1], []]).labels == ("0", "1")
    assert values(build(tokenizer, [[1, 0], [1]])) == [[1.0, 1.0], [0.0, 1.0]]
    assert values(build(tokenizer, [[1, 0]], labels=["0", "1", "2"])) == [[1.0, 1.0, 0.0]]
    both = build_dataset(named(["a", "b"], [[0, 1], [1, 0]]), "seqcls", tokenizer)
    assert (both.labels, values(both)) == (("a", "b"), [[1.0, 1.0], [1.0, 1.0]])


def test_given_labels_keep_their_ids(tokenizer: Tokenizer) -> None:
    assert values(build(tokenizer, ["b", "b"], labels=["z", "b"])) == [1, 1]
    with pytest.warns(BijectWarning, match="0 = neg, 1 = pos"):
        assert values(build(tokenizer, ["1", "0"], labels=["neg", "pos"])) == [1, 0]
    fails(
        tokenizer, [{"text": "a", "label": "c"}], "row 1", "unknown label 'c'", "'a', 'b'", labels=["a", "b"]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fails(tokenizer, [{"text": "a", "label": 2}], "unknown label '2'", labels=["a", "b"])


def named(names: list[str], labels: list[Any]) -> Any:
    """Rows whose numbers have names, as data sets of the Hub have them."""

    class Features(list[dict[str, Any]]):
        features = {"label": type("ClassLabel", (), {"names": names})()}  # noqa: RUF012

    return Features({"text": "a", "label": label} for label in labels)


def test_class_names_of_the_source(tokenizer: Tokenizer) -> None:
    built = build_dataset(named(["neg", "pos"], [1, 0]), "seqcls", tokenizer)
    assert built.labels == ("neg", "pos")
    assert values(built) == [1, 0]
    fails(tokenizer, named(["neg", "pos"], [-1]), "unknown label '-1'")


def test_class_names_of_the_source_are_matched_by_name(
    tokenizer: Tokenizer, recwarn: pytest.WarningsRecorder
) -> None:
    mnli = named(["entailment", "neutral", "contradiction"], [0, 1, 2])
    names = ["CONTRADICTION", "NEUTRAL", "ENTAILMENT"]
    built = build_dataset(mnli, "seqcls", tokenizer, labels=names)
    assert (built.labels, values(built)) == (tuple(names), [2, 1, 0])
    exact = build_dataset(named(["a", "A"], [0, 1]), "seqcls", tokenizer, labels=["A", "a"])
    assert values(exact) == [1, 0]
    several = named(["b", "a"], [[0], [0, 1]])
    assert values(build_dataset(several, "seqcls", tokenizer, labels=["a", "b"])) == [[0.0, 1.0], [1.0, 1.0]]
    fails(tokenizer, mnli, "row 2", "unknown label 'neutral'", labels=["contradiction", "entailment"])
    assert not recwarn.list
    with pytest.warns(BijectWarning, match="0 = LABEL_0"):
        generic = build_dataset(
            named(["neg", "pos"], [1]), "seqcls", tokenizer, labels=["LABEL_0", "LABEL_1"]
        )
    assert values(generic) == [1]


@pytest.mark.parametrize(
    "labels, parts, options",
    [
        (["a", None], ("row 2, column `label`", "found none"), {}),
        (["a", ""], ("row 2", "found none"), {}),
        (["a", float("nan")], ("row 2", "found none"), {}),
        (["a", "a"], ("two different labels", "only 'a'"), {}),
        (["a", 1], ("row 2", "expected str", "found 1"), {}),
        ([True, 1], ("row 2", "expected bool"), {}),
        (["a", {"b": 1}], ("row 2", "text or whole number"), {}),
        (["a", ["b"]], ("row 1", "list of labels"), {}),
        (["a", 0.5], ("row 2", "found 0.5"), {}),
        ([str(i) + "x" for i in range(30)], ("30 rows", "label of its own"), {}),
        (["1.0", "0.0"], ("may be classes or amounts", "problem_type"), {}),
        (["0.5", "x"], ("row 2", "expected a number", "'x'"), {"problem_type": "regression"}),
        ([0.5, float("inf")], ("row 2", "expected a number"), {}),
        ([1, 10**400], ("row 2", "expected a number"), {"problem_type": "regression"}),
    ],
)
def test_bad_labels(
    tokenizer: Tokenizer, labels: list[Any], parts: tuple[str, ...], options: dict[str, Any]
) -> None:
    fails(tokenizer, [{"text": "a", "label": label} for label in labels], *parts, **options)


@pytest.mark.parametrize(
    "text, part", [(None, "found none"), (3, "found 3"), (" ", "empty"), ("\ud800", "surrogate")]
)
def test_bad_texts(tokenizer: Tokenizer, text: Any, part: str) -> None:
    fails(tokenizer, [{"text": "a", "label": 0}, {"text": text, "label": 1}], "row 2, column `text`", part)


def test_columns(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("sentence,clas\na,x\nb,y\n")
    assert len(build_dataset(path, "seqcls", tokenizer, label_column="clas").dataset) == 2
    fails(tokenizer, path, "a.csv has no column `label` or `labels`", "`sentence`, `clas`", "label_column")
    fails(tokenizer, path, "no column 'class'", "Did you mean `clas`?", label_column="class")
    path.write_text("words\na\nb\n")
    fails(tokenizer, path, "no column `text` or `sentence`", "`words`", "text_column")
    fails(tokenizer, path, "no column `label`", text_column="words")
    fails(tokenizer, path, "two for pairs", text_column=("a", "b", "c"))
    fails(tokenizer, path, "task: expected seqcls", task="cls")


def test_pairs(tokenizer: Tokenizer) -> None:
    rows = [{"one": "the fox", "two": "the dog", "label": i} for i in range(2)]
    sample = build_dataset(rows, "seqcls", tokenizer, text_column=("one", "two")).dataset[0]
    assert tokenizer.decode(sample["input_ids"]) == "[CLS] the fox [SEP] the dog [SEP]"
    assert sample["token_type_ids"] == [0, 0, 0, 0, 1, 1, 1]


def test_long_texts_are_cut_and_counted_or_refused(tokenizer: Tokenizer) -> None:
    rows = [{"text": "the " * (5 * i + 2), "label": i} for i in range(3)]
    built = build_dataset(rows, "seqcls", tokenizer, max_length=8)
    assert built.dataset.lengths == [4, 8, 8]
    assert (built.report.num_cut, built.report.tokens_lost) == (2, (9 - 8) + (14 - 8))
    assert any("7 tokens (25.9 %) are lost" in line for line in built.report.lines())
    assert built.dataset[1]["input_ids"] == tokenizer(["the " * 6]).input_ids[0]
    fails(tokenizer, rows, "row 2", "has 9 tokens", "limit of 8", max_length=8, truncate=False)


@given(st.lists(st.sampled_from(["a", "b", "c", "ä"]), min_size=2, max_size=30))
def test_names_and_ids_belong_together(tokenizer: Tokenizer, labels: list[str]) -> None:
    if len(set(labels)) < 2:
        return
    built = build(tokenizer, labels)
    assert [built.labels[i] for i in values(built)] == labels
    assert sum(built.report.counts.values()) == len(labels)


def test_a_data_set_is_a_sequence(tokenizer: Tokenizer) -> None:
    dataset = build(tokenizer, ["a", "b", "a"]).dataset
    assert [sample["labels"] for sample in dataset] == [0, 1, 0]
    assert dataset[-1] == dataset[2]
    with pytest.raises(IndexError):
        dataset[3]
    dataset.set_epoch(4)
    assert dataset.rows == [0, 1, 2]
    assert isinstance(load_rows([{"a": 1}]), Rows)
