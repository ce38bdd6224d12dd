"""Labels by their names: rows without any, several in one text, data sets that lack a class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import biject
from biject.config.recipe import TrainConfig
from biject.data.features import build_dataset
from biject.data.labelled import named_labels, with_labels_of
from biject.errors import BijectWarning, ConfigError, InputError
from biject.tokenization.tokenizer import Tokenizer
from biject.train.objective import make_objective
from biject.verify.reference import make_reference

NAMES = ("bad", "fine", "good")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_reference("bert", "base", tmp_path_factory.mktemp("labelled") / "base")


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return biject.AutoTokenizer.from_pretrained(folder)


def built(tokenizer: Tokenizer, values: list[Any], task: str = "seqcls", **options: Any) -> Any:
    rows = [{"text": "the fox", "label": value} for value in values]
    if task == "tokcls":
        rows = [{"tokens": ["the", "fox"], "tags": [value, "O"]} for value in values]
    return build_dataset(rows, task, tokenizer, **options).dataset


def named(dataset: Any) -> list[Any]:
    """The samples' labels by name, however they are numbered."""
    found: list[Any] = []
    for sample in dataset:
        value = sample["labels"]
        if isinstance(value, list) and dataset.problem_type == "multi_label_classification":
            found.append({dataset.labels[i] for i, on in enumerate(value) if on})
        elif isinstance(value, list):
            found.append([dataset.labels[i] for i in value if i >= 0])
        else:
            found.append(dataset.labels[value])
    return found


@pytest.mark.parametrize("empty", ["", " ", None])
def test_rows_without_labels(empty: str | None, tokenizer: Tokenizer) -> None:
    found = built(tokenizer, ["a|b", empty, "b"], label_separator="|")
    assert [sample["labels"] for sample in found] == [[1.0, 1.0], [0.0, 0.0], [0.0, 1.0]]
    lists = built(tokenizer, [["a", "b"], [], ["b"]])
    assert [sample["labels"] for sample in lists] == [[1.0, 1.0], [0.0, 0.0], [0.0, 1.0]]
    with pytest.raises(InputError, match="expected a label, found none"):
        built(tokenizer, ["a", empty, "b"])


@pytest.mark.parametrize("labels", [["a|b", "a", "b"], ["a; b", "a; c", "b; c"], ["a,b", "b,a", "a"]])
def test_several_labels_in_one_text_are_said(labels: list[str], tokenizer: Tokenizer) -> None:
    with pytest.warns(BijectWarning, match="look like several labels"):
        built(tokenizer, labels * 2)


@pytest.mark.parametrize("labels", [["Science, Technology", "Arts, Culture", "Sport"], ["a", "b"], [0, 1]])
def test_plain_classes_are_no_warning(
    labels: list[Any], tokenizer: Tokenizer, recwarn: pytest.WarningsRecorder
) -> None:
    built(tokenizer, labels * 2)
    assert not recwarn.list


@pytest.mark.parametrize("task", ["seqcls", "tokcls"])
def test_a_data_set_that_lacks_a_class_is_matched_by_name(task: str, tokenizer: Tokenizer) -> None:
    names = (*NAMES, "O") if task == "tokcls" else NAMES
    lacking = built(tokenizer, ["good", "fine", "good"], task)
    before = named(lacking)
    with pytest.warns(BijectWarning, match="matched by name"):
        same = with_labels_of(lacking, names, whose="the model's")
    assert same.labels == names
    assert named(same) == before
    assert named(lacking) == before


def test_several_labels_are_matched_by_name(tokenizer: Tokenizer) -> None:
    lacking = built(tokenizer, ["good|fine", "", "good"], label_separator="|")
    before = named(lacking)
    with pytest.warns(BijectWarning, match="matched by name"):
        same = with_labels_of(lacking, NAMES, whose="the model's")
    assert named(same) == before
    assert len(same[0]["labels"]) == 3


def test_ids_stay_ids(tokenizer: Tokenizer) -> None:
    assert [s["labels"] for s in with_labels_of(built(tokenizer, [0, 1, 2]), NAMES, whose="")] == [0, 1, 2]
    with pytest.warns(BijectWarning, match="matched by name"):
        lacking = with_labels_of(built(tokenizer, [1, 2]), NAMES, whose="the model's")
    assert [sample["labels"] for sample in lacking] == [1, 2]


def test_unknown_labels_are_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match="awful"):
        with_labels_of(built(tokenizer, ["awful", "good"]), NAMES, whose="the model's")


def test_generic_names_and_numbers_stay(tokenizer: Tokenizer, folder: Path) -> None:
    numbers = built(tokenizer, [0.5, 1.5, 2.5])
    assert with_labels_of(numbers, NAMES, whose="") is numbers
    assert with_labels_of([1, 2], NAMES, whose="") == [1, 2]
    assert named_labels(torch.nn.Linear(1, 1)) == ()


def test_an_evaluation_set_that_lacks_a_class_gives_the_same_figures(
    folder: Path, tokenizer: Tokenizer
) -> None:
    train = built(tokenizer, [*NAMES] * 4)
    figures = []
    for evaluation in (
        built(tokenizer, ["good", "fine", "good"], labels=list(NAMES)),
        built(tokenizer, ["good", "fine", "good"]),
    ):
        torch.manual_seed(0)
        model = biject.AutoModelForSequenceClassification.from_pretrained(
            folder, id2label=dict(enumerate(NAMES))
        )
        trainer = biject.Trainer.for_head(
            model,
            collate=biject.Collator.of(tokenizer),
            metrics=lambda: biject.metrics_for("seqcls", labels=NAMES),
            lr=1e-3,
        )
        figures.append(trainer.fit(train, eval_dataset=evaluation, batch_size=4, epochs=2).history)
    assert figures[0] == figures[1]


def theirs(folder: Path, names: tuple[str, ...] = ("good", "bad", "fine")) -> Any:
    """Transformers' own model."""
    from transformers import BertForSequenceClassification

    torch.manual_seed(0)
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    return BertForSequenceClassification.from_pretrained(folder, **labels).eval()


def test_a_model_of_transformers_has_its_names_in_its_config(folder: Path, tokenizer: Tokenizer) -> None:
    model, values = theirs(folder), ["good", "fine", "bad", "good"]
    assert named_labels(model) == ("good", "bad", "fine")
    trainer = biject.Trainer(
        model,
        collate=biject.Collator.of(tokenizer),
        metrics=lambda: biject.metrics_for("seqcls", labels=named_labels(model)),
    )
    expected = trainer.evaluate(built(tokenizer, values, labels=["good", "bad", "fine"]))
    with pytest.warns(BijectWarning, match="matched by name"):
        assert trainer.evaluate(built(tokenizer, values)) == expected
    with pytest.raises(InputError, match="awful"):
        trainer.evaluate(built(tokenizer, [*values, "awful"]))


def test_weights_by_the_names_of_such_a_model(folder: Path) -> None:
    def weights(model: Any, **given: float) -> Any:
        objective = make_objective(model, TrainConfig(class_weights=given), None)
        return None if objective is None else objective.weights

    assert weights(theirs(folder), bad=2.0) == (1.0, 2.0, 1.0)
    assert weights(theirs(folder, ("LABEL_0", "LABEL_1")), **{"1": 2.0}) == (1.0, 2.0)
    with pytest.raises(ConfigError, match="there are good, bad, fine"):
        weights(theirs(folder), awful=2.0)
    with pytest.raises(ConfigError, match="neither names nor the number"):
        weights(torch.nn.Linear(2, 2), bad=2.0)
