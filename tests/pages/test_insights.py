"""`insights.json` against what the run's own evaluation found, and against transformers."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from biject.data.qa_rows import Question
from biject.pages.findings import findings
from biject.runs.folder import RunFolder
from biject.runs.insights.answers import _example
from biject.runs.insights.common import calibration, interval, wilson
from biject.runs.prepare import prepare


def insights(run: Path) -> dict[str, Any]:
    return json.loads((run / "insights.json").read_text())


def best(run: Path) -> dict[str, Any]:
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    return min((e for e in events if e["event"] == "evaluation"), key=lambda event: event["loss"])


@pytest.mark.parametrize(
    ("task", "names"),
    [("seqcls", ("accuracy", "f1_macro")), ("tokcls", ("f1",)), ("qa", ("f1", "exact_match"))],
)
def test_the_same_numbers_as_the_evaluation_of_the_best_step(
    runs: dict[str, Path], task: str, names: tuple[str, ...]
) -> None:
    """Another way through the data and another sum: equal numbers."""
    found, evaluated = insights(runs[task]), best(runs[task])
    for name in names:
        sure = found["intervals"][name]
        assert sure["value"] == pytest.approx(evaluated[name], abs=1e-12)
        assert 0 <= sure["low"] <= sure["value"] <= sure["high"] <= 1
        assert sure["low"] < sure["high"]
    assert found["num_samples"] == found["of"] == 9


def test_confusions_and_the_most_surprising_text(runs: dict[str, Path]) -> None:
    """Counted again with transformers on the exported model."""
    import transformers

    found = insights(runs["seqcls"])
    folder = runs["seqcls"] / "model"
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    names = [model.config.id2label[i] for i in range(3)]
    assert found["labels"] == names
    held = prepare(RunFolder(runs["seqcls"]).stored()).samples.evaluation
    counts, ranked = np.zeros((3, 3), dtype=int), []
    for sample in held:
        with torch.no_grad():
            shares = model(torch.tensor([sample["input_ids"]])).logits[0].double().softmax(-1)
        guess, true = int(shares.argmax()), sample["labels"]
        counts[true, guess] += 1
        ranked.append((-float(shares[true].log()), names[true], names[guess], float(shares.max())))
    assert counts.tolist() == found["confusion"]
    assert counts.sum(1).tolist() == [row["support"] for row in found["per_label"]]
    ranked.sort(key=lambda one: -one[0])
    for example, (loss, label, prediction, score) in zip(found["examples"], ranked, strict=False):
        assert (example["label"], example["prediction"]) == (label, prediction)
        assert (example["loss"], example["score"]) == pytest.approx((loss, score), abs=1e-5)


def test_losses_of_tokens(runs: dict[str, Path]) -> None:
    import transformers

    folder = runs["causal"] / "model"
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for example in insights(runs["causal"])["examples"]:
        text = "".join(token[0] for token in example["tokens"])
        ids = tokenizer(text, return_tensors="pt").input_ids
        assert ids.shape[1] == len(example["tokens"])
        logits = model(ids).logits[0, :-1]
        theirs = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none").tolist()
        assert example["tokens"][0][1] is None
        assert [token[1] for token in example["tokens"][1:]] == pytest.approx(theirs, abs=1e-3)


def test_pieces_of_an_answer(runs: dict[str, Path]) -> None:
    for example in insights(runs["qa"])["examples"]:
        marked = "".join(text for text, kind in example["pieces"] if kind in ("truth", "both"))
        assert marked == example["answers"][0]


def test_both_answers_are_shown_where_they_are_far_apart() -> None:
    """Two stretches of the passage with a gap between them; one where they are near, or are the same."""
    filler = "and so on, " * 300
    context = f"It was built by Ada Moss. {filler} It was sold by Lune Gray in the end."
    question = Question(context=context, question="Who built it?", answers=(("Ada Moss", 16),))
    data = SimpleNamespace(questions=[question])

    def kinds(start: int, text: str) -> list[str]:
        answer = SimpleNamespace(row=0, start=start, end=start + len(text), text=text, score=0.9, f1=0.0)
        found = _example(data, answer)["pieces"]
        assert all(piece in context for piece, kind in found if kind != "gap")
        return [kind for _, kind in found if kind]

    assert kinds(context.index("Lune"), "Lune Gray") == ["truth", "gap", "prediction"]
    assert kinds(context.index("built"), "built by") == ["prediction", "truth"]
    assert kinds(16, "Ada Moss") == ["both"]


def test_pieces_of_a_tagged_sentence() -> None:
    """One entity cut in two is wrong, as the metrics count it; nothing begins with a space."""
    tokens = [
        *([" new", "B-LOC", "B-LOC"], [" york", "I-LOC", "B-LOC"], [" met", "O", "O"]),
        *([" ada", "B-PER", "B-PER"], [" moss", "I-PER", "I-PER"], ["es", "", ""], [".", "O", "B-ORG"]),
    ]
    found = findings({"task": "tokcls", "examples": [{"tokens": tokens}]}).tagged[0]["pieces"]
    assert found == [
        ("", "new", "right", "LOC"),
        (" ", "york", "wrong", "LOC, found to begin or end elsewhere"),
        ("", " met", "", ""),
        (" ", "ada mosses", "right", "PER"),
        ("", ".", "wrong", "nothing, found ORG"),
    ]


def test_intervals_and_calibration() -> None:
    """Against the normal approximation, and by hand."""
    rng = np.random.default_rng(1)
    right = rng.random(400) < 0.8
    found = interval(lambda chosen: float(right[chosen].mean()), 400)
    half = 1.96 * (right.mean() * (1 - right.mean()) / 400) ** 0.5
    assert found["low"] == pytest.approx(right.mean() - half, abs=0.01)
    assert found["high"] == pytest.approx(right.mean() + half, abs=0.01)
    sure = interval(lambda chosen: 1.0, 20)
    assert sure["low"] == pytest.approx(wilson(1.0, 20)[0]) == pytest.approx(0.8389, abs=1e-3)
    assert sure["high"] == 1.0
    scores = calibration(np.array([0.95, 0.95, 0.55, 0.55]), np.array([True, True, True, False]))
    assert [one["count"] for one in scores["bins"]] == [2, 2]
    assert scores["ece"] == pytest.approx(0.5 * 0.05 + 0.5 * 0.05)
