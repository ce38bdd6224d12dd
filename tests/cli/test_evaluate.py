"""`biject evaluate`: the numbers that a run printed, for the same model and rows."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import pytest
import torch

from biject.verify.reference import make_reference


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return make_reference("bert", "base", tmp_path_factory.mktemp("base") / "model")


@pytest.mark.parametrize("task", ["seqcls", "tokcls", "qa", "mlm"])
def test_the_same_numbers_as_in_the_run(run, base, write_data, tmp_path, task: str) -> None:
    data = write_data(tmp_path, task)
    (tmp_path / "held").mkdir()
    held = write_data(tmp_path / "held", task)
    out = tmp_path / "run"
    flags = ("--epochs", 1, "--batch-size", 8, "--lr", "3e-3", "--eval-data", held)
    trained = run("finetune", "--model", base, "--data", data, "--task", task, "--out", out, *flags)
    assert trained.code == 0, trained.err
    said = next(line for line in trained.out.splitlines() if line.startswith("EVALUATION"))
    for place in (out / "model", out):
        found = run("evaluate", place, "--data", held, "--batch-size", 8)
        assert found.code == 0, found.err
        assert found.out.splitlines()[-1].partition(": ")[2] == said.partition(": ")[2]


@pytest.fixture
def classifier(tmp_path) -> Path:
    labels = {"id2label": {0: "no", 1: "yes", 2: "never"}, "label2id": {"no": 0, "yes": 1, "never": 2}}
    return make_reference("bert", "seqcls", tmp_path / "classifier", overrides=labels)


def rows(path: Path, labels: list[str], *, header: tuple[str, str] = ("text", "label")) -> Path:
    draw = random.Random(1)
    words = ["the", "fox", "is", "a", "good", "model", "never", "lost", "people"]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows([" ".join(draw.choices(words, k=5)), label] for label in labels)
    return path


def test_labels_are_the_models_own(run, classifier, tmp_path) -> None:
    """Rows that lack a class are counted with the model's ids; an unknown label is an error."""
    data = rows(tmp_path / "some.csv", ["never", "yes"] * 8)
    from biject.tasks.pipeline import pipeline

    predict = pipeline("text-classification", model=str(classifier))
    with data.open() as file:
        expected = [predict(row["text"])[0]["label"] == row["label"] for row in csv.DictReader(file)]
    found = json.loads(run("evaluate", classifier, "--data", data, "--json").out)
    assert found["metrics"]["accuracy"] == pytest.approx(sum(expected) / 16)
    assert found["num_samples"] == 16
    wrong = run("evaluate", classifier, "--data", rows(tmp_path / "wrong.csv", ["maybe"] * 4))
    assert wrong.code == 2
    assert "maybe" in wrong.err


def test_columns_and_a_file_for_the_numbers(run, classifier, tmp_path) -> None:
    data = rows(tmp_path / "other.csv", ["no", "yes"] * 4, header=("review", "verdict"))
    flags = ("--text-column", "review", "--label-column", "verdict", "--out", tmp_path / "numbers.json")
    assert run("evaluate", classifier, "--data", data, *flags).code == 0
    written = json.loads((tmp_path / "numbers.json").read_text())
    assert set(written) == {"model", "data", "task", "num_samples", "metrics"}
    again = run("evaluate", classifier, "--data", data, *flags)
    assert again.code == 2
    assert "exists already" in again.err


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ((), "--data"),
        (("--data", "missing.csv"), "missing.csv"),
        (("--data", "{data}", "--task", "tokcls"), "no trained head for tokcls"),
        (("--data", "{data}", "--text-column", "nothing"), "nothing"),
        (("--data", "{data}", "--set", "colour=1"), "colour"),
        (("--data", "{data}", "--out", "nowhere/x.json"), "no folder"),
        (("--data", "{data}", "--device", "warp"), "warp"),
    ],
)
def test_what_cannot_be_used(run, classifier, tmp_path, flags, says: str) -> None:
    data = rows(tmp_path / "data.csv", ["no", "yes"] * 4)
    found = run("evaluate", classifier, *(flag.format(data=data) for flag in flags))
    assert found.code == 2
    assert says in found.err
    assert found.out == ""


def test_a_model_without_a_head(run, base, tmp_path) -> None:
    data = rows(tmp_path / "data.csv", ["no", "yes"] * 4)
    found = run("evaluate", base, "--data", data, "--task", "seqcls")
    assert found.code == 2
    assert "no trained head for seqcls" in found.err
