"""`biject predict` on tables: texts are a column's, other columns are kept, results go to files."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers")  # makes the reference checkpoints

from biject.verify.reference import make_reference

ROWS = [
    {"id": "7", "review": "the good fox, lost", "label": "neg"},
    {"id": "8", "review": 'paris is "good" !', "label": "pos"},
    {"id": "9", "review": "no", "label": "pos"},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def get(head: str) -> Path:
        if head not in made:
            made[head] = make_reference("bert", head, tmp_path_factory.mktemp("models") / head)
        return made[head]

    return get


def write(path: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    """The rows as the path's suffix has them."""
    if path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".parquet":
        pa = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".csv":
        with path.open(newline="") as stream:
            return list(csv.DictReader(stream))
    if path.suffix == ".parquet":
        return pytest.importorskip("pyarrow.parquet").read_table(path).to_pylist()
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json", ".parquet"])
def test_a_table_is_read_as_a_table(run, folder, tmp_path, suffix) -> None:
    file = write(tmp_path / f"data{suffix}")
    outcome = run("predict", folder("seqcls"), "--file", file, "--json")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)["results"]
    assert [row["text"] for row in found] == [row["review"] for row in ROWS]
    assert [row["row"] for row in found] == [{"id": row["id"], "label": row["label"]} for row in ROWS]
    assert "column `review`" in outcome.err
    assert "--text-column" in outcome.err
    quiet = run("predict", folder("seqcls"), "--file", file, "--json", "--text-column", "review")
    assert (quiet.out, quiet.err) == (outcome.out, "")


def test_one_column_alone_and_usual_names_need_no_note(run, folder, tmp_path) -> None:
    one = write(tmp_path / "one.csv", [{"body": "yes"}, {"body": "no"}])
    assert run("predict", folder("seqcls"), "--file", one, "--json").err == ""
    usual = write(tmp_path / "usual.csv", [{"a much longer column": "x" * 99, "text": "no"}])
    outcome = run("predict", folder("seqcls"), "--file", usual, "--json")
    assert outcome.err == ""
    assert json.loads(outcome.out)["results"][0]["text"] == "no"


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_results_in_a_file(run, folder, tmp_path, suffix) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    out = tmp_path / f"out{suffix}"
    outcome = run("predict", folder("seqcls"), "--file", write(tmp_path / "data.csv"), "--out", out)
    assert outcome.code == 0, outcome.err
    assert outcome.out == f"WROTE 3 rows to {out}\n"
    found = read(out)
    assert [{name: row[name] for name in ROWS[0]} for row in found] == ROWS
    assert list(found[0]) == ["id", "review", "label", "predicted_label", "predicted_score"]
    plain = json.loads(run("predict", folder("seqcls"), *[r["review"] for r in ROWS], "--json").out)[
        "results"
    ]
    for row, expected in zip(found, plain, strict=True):
        assert row["predicted_label"] == expected["result"][0]["label"]
        assert float(row["predicted_score"]) == pytest.approx(expected["result"][0]["score"], abs=1e-6)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_half_of_a_pair_in_another_column(run, folder, tmp_path, suffix) -> None:
    """A text that was cut inside an emoji is no reason to lose what was computed."""
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    data = tmp_path / "data.jsonl"
    data.write_text('{"text": "ok", "user": "a\\ud83d"}\n')
    out = tmp_path / f"out{suffix}"
    outcome = run("predict", folder("seqcls"), "--file", data, "--out", out)
    assert outcome.code == 0, outcome.err
    (row,) = read(out)
    assert row["user"] == ("a\ud83d" if suffix == ".jsonl" else "a\\ud83d")


def test_a_column_of_several_kinds_goes_to_parquet_as_json(run, folder, tmp_path) -> None:
    pytest.importorskip("pyarrow")
    data = tmp_path / "data.jsonl"
    data.write_text('{"text": "ok", "id": 1}\n{"text": "no", "id": "a7"}\n')
    out = tmp_path / "out.parquet"
    outcome = run("predict", folder("seqcls"), "--file", data, "--out", out)
    assert outcome.code == 0, outcome.err
    assert "column `id` has values of several kinds" in outcome.err
    assert [row["id"] for row in read(out)] == ["1", '"a7"']


def test_a_context_beside_a_text_is_no_second_text(run, folder, tmp_path) -> None:
    """As `finetune` reads such a table: the text alone; `question` and `context` go together."""
    data = write(tmp_path / "data.csv", [{"text": "the good fox", "context": "paris", "label": "x"}])
    lines = tmp_path / "data.jsonl"
    lines.write_text('{"text": "the good fox", "context": "paris"}\n"no"\n')
    alone = json.loads(run("predict", folder("seqcls"), "the good fox", "--json").out)["results"][0]["result"]
    for file in (data, lines):
        found = json.loads(run("predict", folder("seqcls"), "--file", file, "--json").out)["results"][0]
        assert found["result"][0]["label"] == alone[0]["label"]
        assert found["result"][0]["score"] == pytest.approx(alone[0]["score"], abs=1e-6)  # beside another
        assert "text_pair" not in found


def test_several_results_a_row_are_lists(run, folder, tmp_path) -> None:
    data = write(tmp_path / "data.csv")
    options = ("--file", data, "--top-k", 2)
    assert run("predict", folder("seqcls"), *options, "--out", tmp_path / "out.jsonl").code == 0
    assert run("predict", folder("seqcls"), *options, "--out", tmp_path / "out.csv").code == 0
    lists = [row["predicted"] for row in read(tmp_path / "out.jsonl")]
    assert [len(found) for found in lists] == [2, 2, 2]
    assert [json.loads(row["predicted"]) for row in read(tmp_path / "out.csv")] == lists
    tags = tmp_path / "tags.jsonl"
    assert (
        run("predict", folder("tokcls"), "--file", data, "--text-column", "review", "--out", tags).code == 0
    )
    assert read(tags)[1]["predicted"][0]["word"] == "paris"


def test_embeddings(run, folder, tmp_path) -> None:
    data, out = write(tmp_path / "data.csv"), tmp_path / "vectors.npy"
    assert run("predict", folder("base"), "--file", data, "--out", out).code == 0
    array = np.load(out, allow_pickle=False)
    assert (array.shape, array.dtype) == ((3, 32), np.float32)
    lines = tmp_path / "vectors.jsonl"
    assert run("predict", folder("base"), "--file", data, "--out", lines).code == 0
    np.testing.assert_array_equal(
        np.array([row["embedding"] for row in read(lines)], dtype=np.float32), array
    )


def test_pairs_and_questions(run, folder, tmp_path) -> None:
    rows = [{"id": 1, "one": "the fox", "two": "no"}, {"id": 2, "one": "yes", "two": "the dog"}]
    file = write(tmp_path / "pairs.jsonl", rows)
    outcome = run("predict", folder("seqcls"), "--file", file, "--json", "--text-column", "one,two")
    found = json.loads(outcome.out)["results"]
    assert [(row["text"], row["pair"], row["row"]) for row in found] == [
        ("the fox", "no", {"id": 1}),
        ("yes", "the dog", {"id": 2}),
    ]
    asked = [{"id": "a", "question": "who", "context": "the quick brown fox", "answers": {"text": ["fox"]}}]
    out = tmp_path / "answers.jsonl"
    outcome = run("predict", folder("qa"), "--file", write(tmp_path / "qa.jsonl", asked), "--out", out)
    assert outcome.code == 0, outcome.err
    (row,) = read(out)
    assert row["answers"] == {"text": ["fox"]}
    assert row["predicted_answer"] in row["context"]


def test_texts_alone_go_to_a_file_too(run, folder, tmp_path) -> None:
    out = tmp_path / "out.csv"
    assert run("predict", folder("seqcls"), "yes", "no", "--pair", "maybe", "--out", out).code == 0
    assert [(row["text"], row["text_pair"]) for row in read(out)] == [("yes", "maybe"), ("no", "maybe")]


@pytest.mark.parametrize(
    ("rows", "arguments", "says"),
    [
        (ROWS, ["--text-column", "reviw"], "has no column 'reviw'"),
        (ROWS, ["--text-column", "reviw"], "Did you mean `review`?"),
        (ROWS, ["--text-column", "id,review,label"], "one column, or two for pairs"),
        ([{"id": 1, "n": 2}], [], "no column of texts"),
        ([{"text": "a"}, {"text": " "}], [], "line 2, column `text`: expected a text, found an empty one"),
        ([{"text": "a"}, {"text": None}], [], "line 2, column `text`: expected a text, found none"),
        (ROWS, ["--out", "{tmp}/out.xlsx"], "--out should end in .csv, .jsonl, .parquet or .npy"),
        (ROWS, ["--out", "{tmp}/nowhere/out.csv"], "there is no folder"),
        (ROWS, ["--out", "{tmp}/data.jsonl"], "exists already"),
        (ROWS, ["--out", "{tmp}/out.npy"], "an array of embeddings, which the task classify does not give"),
        (
            [{"text": "a", "predicted_label": "b"}],
            ["--out", "{tmp}/out.csv"],
            "a column `predicted_label`",
        ),
    ],
)
def test_refusals(run, folder, tmp_path, rows, arguments, says) -> None:
    file = write(tmp_path / "data.jsonl", rows)
    filled = [argument.replace("{tmp}", str(tmp_path)) for argument in arguments]
    outcome = run("predict", folder("seqcls"), "--file", file, *filled)
    assert outcome.code == 2
    assert says in outcome.err
    assert outcome.out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.jsonl"]


def test_a_text_column_needs_a_table(run, folder, tmp_path) -> None:
    outcome = run("predict", folder("seqcls"), "yes", "--text-column", "a")
    assert outcome.code == 2
    assert "--text-column needs a table in --file" in outcome.err
