"""Metrics: known values, brute force, batches put together."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from biject.data.dataset import Ids
from biject.data.qa import QaDataset
from biject.data.qa_rows import Question
from biject.errors import InputError
from biject.tasks.metrics import ClassMetrics, metric_names, metrics_for
from biject.tasks.schemes import entities
from biject.tasks.scores import answer_scores, pearson, single_label_scores, spearman


def out(logits: Any) -> Any:
    return SimpleNamespace(logits=torch.as_tensor(logits, dtype=torch.float32))


def one_hot(classes: list[int], size: int) -> Any:
    return torch.nn.functional.one_hot(torch.tensor(classes), size).float()


def test_single_labels_as_scikit_learn_gives_them() -> None:
    # sklearn 1.7: y = [0,1,2,2,1,0,0], p = [0,2,2,2,0,0,1]
    metrics = metrics_for("seqcls", labels=("a", "b", "c", "never"))
    metrics.update(out(one_hot([0, 2, 2, 2], 4)), {"labels": torch.tensor([0, 1, 2, 2])})
    metrics.update(out(one_hot([0, 0, 1, 3], 4)), {"labels": torch.tensor([1, 0, 0, -100])})
    found = metrics.result()
    assert found["accuracy"] == found["f1_micro"] == pytest.approx(4 / 7)
    assert found["f1_macro"] == pytest.approx(0.48888888888888893)
    assert found["matthews"] == pytest.approx(0.3550234734023465)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=40))
def test_binary_scores_by_their_definitions(pairs: list[tuple[int, int]]) -> None:
    confusion = np.zeros((2, 2), dtype=np.int64)
    for truth, guess in pairs:
        confusion[truth, guess] += 1
    (tn, fp), (fn, tp) = confusion.tolist()
    found = single_label_scores(confusion)
    under = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert found["matthews"] == pytest.approx((tp * tn - fp * fn) / under if under else 0.0, abs=1e-12)
    f1s = [2 * hit / (2 * hit + fp + fn) for hit in (tp, tn) if hit + fp + fn]
    assert found["f1_macro"] == pytest.approx(sum(f1s) / len(f1s))
    assert found["accuracy"] == pytest.approx((tp + tn) / len(pairs))


def test_several_labels() -> None:
    metrics = metrics_for("seqcls", labels=("a", "b"), problem_type="multi_label_classification")
    truth = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    metrics.update(out([[1, -1], [1, -1], [1, -1]]), {"labels": truth})
    assert metrics.result() == {
        "accuracy": pytest.approx(1 / 3),
        "f1_macro": pytest.approx((4 / 5 + 0) / 2),
        "f1_micro": pytest.approx(2 * 2 / (3 + 3)),
    }


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=30))
def test_correlations(pairs: list[tuple[int, int]]) -> None:
    a, b = (np.array(side, dtype=np.float64) for side in zip(*pairs, strict=True))
    ranks = [
        [sum(y < x for y in side) + (sum(y == x for y in side) + 1) / 2 for x in side] for side in (a, b)
    ]
    for ours, (x, y) in ((pearson(a, b), (a, b)), (spearman(a, b), ranks)):
        varies = len(set(x)) > 1 and len(set(y)) > 1
        assert ours == pytest.approx(np.corrcoef(x, y)[0, 1] if varies else math.nan, abs=1e-9, nan_ok=True)


def test_regression_over_batches() -> None:
    metrics = metrics_for("seqcls", labels=("LABEL_0",), problem_type="regression")
    metrics.update(out([[1.0], [2.0]]), {"labels": torch.tensor([1.0, 4.0])})
    metrics.update(out([3.0]), {"labels": torch.tensor([9.0])})
    found = metrics.result()
    assert found["mse"] == pytest.approx((0 + 4 + 36) / 3)
    assert found["spearman"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    "tags, expected",
    [
        ("B-A I-A O B-B", {("A", 0, 1), ("B", 3, 3)}),
        ("I-A I-A I-B B-B", {("A", 0, 1), ("B", 2, 2), ("B", 3, 3)}),
        ("O O", set()),
        ("", set()),
        ("X X O X", {("X", 0, 1), ("X", 3, 3)}),
        ("B-A B-A I-A", {("A", 0, 0), ("A", 1, 2)}),
    ],
)
def test_entities(tags: str, expected: set[tuple[str, int, int]]) -> None:
    assert entities(tags.split()) == expected


def test_tags_leave_unlabelled_tokens_out() -> None:
    labels = ("B-A", "I-A", "O")
    metrics = metrics_for("tokcls", labels=labels)
    truth = torch.tensor([[-100, 0, -100, 1, 2, -100], [-100, 2, 0, -100, -100, -100]])
    guess = one_hot([2, 0, 2, 1, 2, 2, 2, 0, 2, 0, 0, 0], 3).view(2, 6, 3)
    metrics.update(out(guess), {"labels": truth})
    assert metrics.result() == {
        "accuracy": pytest.approx(3 / 5),
        "precision": pytest.approx(1 / 2),
        "recall": pytest.approx(1 / 2),
        "f1": pytest.approx(1 / 2),
    }
    assert metric_names("tokcls", labels=("NOUN", "VERB")) == ("loss", "accuracy")


def test_masked_tokens() -> None:
    logits, labels = torch.randn(2, 5, 7), torch.full((2, 5), -100)
    labels[0, 1], labels[1, 4], labels[1, 0] = 3, 2, 6
    metrics = metrics_for("mlm")
    for row in range(2):
        part, truth = logits[row : row + 1], labels[row : row + 1]
        loss = torch.nn.functional.cross_entropy(part.view(-1, 7), truth.view(-1))
        # With all logits, and as the packed layout gives it: the labelled rows' likeliest ids alone.
        found = {"logits": part} if row else {"logits": None, "predictions": part.argmax(-1)}
        metrics.update(SimpleNamespace(loss=loss, **found), {"labels": truth})
    expected = torch.nn.functional.cross_entropy(logits.view(-1, 7), labels.view(-1)).item()
    assert metrics.result()["loss"] == pytest.approx(expected)
    assert metrics.result()["perplexity"] == pytest.approx(math.exp(expected))


@pytest.mark.parametrize(
    "guess, answers, exact, f1",
    [
        ("The Cat!", ["cat"], 1.0, 1.0),
        ("black cat", ["cat", "dog"], 0.0, 2 / 3),
        ("", [], 1.0, 1.0),
        ("cat", [], 0.0, 0.0),
        ("", ["cat"], 0.0, 0.0),
        ("a b c b", ["b b"], 0.0, 0.8),
    ],
)
def test_answers_as_squad_scores_them(guess: str, answers: list[str], exact: float, f1: float) -> None:
    assert answer_scores(guess, answers) == (exact, pytest.approx(f1))


def qa_dataset() -> QaDataset:
    """Two questions: the first in two windows, the second without an answer."""
    return QaDataset(
        {
            "input_ids": Ids([[1, 5, 2, 6, 7, 2]] * 3),
            "start_positions": [3, 0, 0],
            "end_positions": [4, 0, 0],
        },
        rows=[0, 0, 1],
        questions=[
            Question(question="q", context="ab cd ef", answers=(("cd", 3),)),
            Question(question="q", context="ab cd", answers=()),
        ],
        starts=Ids([[-1, -1, -1, 0, 3, -1], [-1, -1, -1, 3, 6, -1], [-1, -1, -1, 0, 3, -1]]),
        ends=Ids([[-1, -1, -1, 2, 5, -1], [-1, -1, -1, 5, 8, -1], [-1, -1, -1, 2, 5, -1]]),
        cls=[0, 0, 0],
    )


def test_windows_of_a_question_are_judged_together() -> None:
    starts = torch.zeros(3, 6)
    starts[0, 4] = 5.0  # "cd" in the first window …
    starts[1, 4] = 1.0  # … beats "ef" in the second
    starts[2, 0] = 9.0  # no answer
    outputs = SimpleNamespace(start_logits=starts, end_logits=starts)
    batch = {"attention_mask": torch.ones(3, 6)}
    whole = metrics_for("qa", questions=qa_dataset())
    whole.update(outputs, batch)
    assert whole.result() == {"exact_match": 1.0, "f1": 1.0}
    parts = metrics_for("qa", questions=qa_dataset())
    for rows in ([0], [1, 2]):
        chosen = SimpleNamespace(start_logits=starts[rows], end_logits=starts[rows])
        parts.update(chosen, {"attention_mask": torch.ones(len(rows), 6)})
    assert parts.result() == whole.result()


@pytest.mark.parametrize(
    "task, options",
    [
        ("seqcls", {"labels": ("a", "b", "c")}),
        ("seqcls", {"labels": ("a", "b", "c"), "problem_type": "multi_label_classification"}),
        ("seqcls", {"labels": ("a", "b", "c"), "problem_type": "regression"}),
        ("tokcls", {"labels": ("B-A", "I-A", "O")}),
        ("mlm", {}),
    ],
)
def test_batches_make_the_whole_and_names_are_those_of_the_result(task: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    shape = (6, 4, 3) if task in ("tokcls", "mlm") else (6, 3)
    logits, labels = torch.randn(shape), torch.randint(0, 3, shape[:-1])
    if "problem_type" in options:
        labels = (torch.rand(shape) > 0.5).float()
    whole, parts = (metrics_for(task, **options) for _ in range(2))
    for metrics, part in ((whole, slice(None)), (parts, slice(2)), (parts, slice(2, None))):
        found = out(logits[part])
        if task == "mlm":
            found.loss = torch.nn.functional.cross_entropy(logits[part].view(-1, 3), labels[part].view(-1))
        metrics.update(found, {"labels": labels[part]})
    assert parts.result() == pytest.approx(whole.result())
    assert set(whole.result()) | {"loss"} == set(metric_names(task, **options))
    assert set(whole.result()) == set(whole.names)


def test_unknown_task() -> None:
    with pytest.raises(InputError, match="no metrics"):
        metrics_for("cooking")
    assert metric_names("qa") == ("loss", "exact_match", "f1")
    assert isinstance(metrics_for("seqcls", labels="ab"), ClassMetrics)
