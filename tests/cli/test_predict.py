"""`biject predict`: every task on tiny checkpoints; texts from everywhere; bad input is a line and code 2."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("transformers")  # makes the reference checkpoints

from biject.cli.texts import read_inputs
from biject.errors import InputError
from biject.verify.reference import make_reference

CONTEXT = "the quick brown fox jumps over a lazy dog"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def get(head: str) -> Path:
        if head not in made:
            made[head] = make_reference("bert", head, tmp_path_factory.mktemp("models") / head)
        return made[head]

    return get


def results(outcome: Any) -> list[dict[str, Any]]:
    assert outcome.code == 0, outcome.err
    document = json.loads(outcome.out)
    assert set(document) == {"model", "task", "results"}
    return document["results"]


def test_fill_mask(run, folder) -> None:
    found = results(
        run("predict", folder("mlm"), "paris is [MASK]", "[MASK] [MASK] !", "--top-k", 3, "--json")
    )
    assert [row["text"] for row in found] == ["paris is [MASK]", "[MASK] [MASK] !"]
    assert len(found[0]["result"]) == 3
    assert [len(candidates) for candidates in found[1]["result"]] == [3, 3]
    table = run("predict", folder("mlm"), "paris is [MASK]").out
    assert "sequence" in table
    assert "paris is [MASK]" in table


def test_classify_and_pairs(run, folder) -> None:
    found = results(run("predict", folder("seqcls"), "yes", "no", "--pair", "maybe", "--json", "--top-k", 9))
    assert [(row["text"], row["pair"]) for row in found] == [("yes", "maybe"), ("no", "maybe")]
    assert {label["label"] for label in found[0]["result"]} == {"LABEL_0", "LABEL_1"}
    assert "LABEL_" in run("predict", folder("seqcls"), "yes").out


def test_tag(run, folder) -> None:
    found = results(run("predict", folder("tokcls"), "paris is good", "--json", "--aggregation", "simple"))
    assert all(entity["entity_group"].startswith("LABEL_") for entity in found[0]["result"])
    assert "paris" in run("predict", folder("tokcls"), "paris is good").out


def test_answer(run, folder) -> None:
    outcome = run("predict", folder("qa"), "what jumps ?", "--context", CONTEXT, "--json", "--null-answer")
    (row,) = results(outcome)
    assert row["pair"] == CONTEXT
    assert row["result"][0]["answer"] in CONTEXT
    options = ("--max-answer-length", 1, "--stride", 2, "--top-k", 2)
    found = results(run("predict", folder("qa"), "who", "--context", CONTEXT, "--json", *options))
    assert all(" " not in answer["answer"] for answer in found[0]["result"])


def test_embed(run, folder) -> None:
    found = results(run("predict", folder("base"), "yes", "no", "--json", "--batch-size", 1))
    assert [len(row["result"]) for row in found] == [32, 32]
    assert results(run("predict", folder("mlm"), "yes", "--task", "embed", "--json", "--pooling", "cls"))
    assert "vector" in run("predict", folder("base"), "yes").out


def test_results_keep_the_order_of_the_texts(run, folder) -> None:
    texts = ["yes", "the quick brown fox jumps", "no !", "paris is capital of france"]
    together = results(run("predict", folder("base"), *texts, "--json"))
    for text, row in zip(texts, together, strict=True):
        assert row["text"] == text
        (alone,) = results(run("predict", folder("base"), text, "--json"))
        assert alone["result"] == pytest.approx(row["result"], abs=1e-6)


def test_files(run, folder, tmp_path) -> None:
    lines = tmp_path / "texts.txt"
    lines.write_bytes('\ufeffyes\r\n\n{"no" ünd\n'.encode())
    found = results(run("predict", folder("seqcls"), "--file", lines, "--json"))
    assert [row["text"] for row in found] == ["yes", '{"no" ünd']
    objects = tmp_path / "texts.jsonl"
    objects.write_text(
        '{"question": "who", "context": "a fox", "id": 3}\n"yes"\n{"text": "yes", "text_pair": null}\n'
    )
    found = results(run("predict", folder("seqcls"), "--file", objects, "--json"))
    assert [(row["text"], row.get("pair")) for row in found] == [
        ("who", "a fox"),
        ("yes", None),
        ("yes", None),
    ]
    assert found[0]["row"] == {"id": 3}
    complain(
        run("predict", folder("seqcls"), "--file", objects, "--text-column", "question"),
        "line 2 must be a JSON object",
    )


@pytest.mark.parametrize(
    ("typed", "items"),
    [
        (b"one\ntwo\n", ["one", "two"]),
        (b'{"text": "one"}\n{"text": "a", "text_pair": "b"}', ["one", ("a", "b")]),
    ],
)
def test_standard_input(monkeypatch, typed, items) -> None:
    stdin = SimpleNamespace(buffer=io.BytesIO(typed), isatty=lambda: False)
    monkeypatch.setattr("sys.stdin", stdin)
    assert read_inputs([], file=None).items == items
    stdin.buffer.seek(0)
    assert read_inputs([], file=Path("-"), pair="c").items[0] == ("one", "c")


def test_a_terminal_is_not_waited_for(monkeypatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    with pytest.raises(InputError, match="There is no text"):
        read_inputs([], file=None)


BAD_FILES = {
    "empty.txt": (b"\n \n", "has no text"),
    "latin.txt": (b"sch\xf6n\n", "byte 3 is not"),
    "broken.jsonl": (b'{"text": "a"}\n{"text"\n', "line 2 must be a JSON object"),
    "number.jsonl": (b"3\n", "line 1 must have `text`"),
    "keys.jsonl": (b'{"sentence": 3}\n', "has no column of texts"),
    "half.jsonl": (b'{"text": "\\ud800"}\n', "surrogate pair"),
    "deep.jsonl": (b"[" * 100_000, "line 1 must be a JSON object"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files(name, run, folder, tmp_path) -> None:
    data, says = BAD_FILES[name]
    (tmp_path / name).write_bytes(data)
    complain(run("predict", folder("seqcls"), "--file", tmp_path / name), says)


def complain(outcome: Any, says: str) -> None:
    """One line on stderr (notices apart), exit code 2, nothing on stdout."""
    assert outcome.code == 2
    assert outcome.out == ""
    lines = [line for line in outcome.err.splitlines() if not line.startswith("biject: note:")]
    assert len(lines) == 1, outcome.err
    assert lines[0].startswith("biject: error: ")
    assert says in lines[0]


@pytest.mark.parametrize(
    ("head", "arguments", "says"),
    [
        ("mlm", ["no mask here"], "text 1 has no mask token; write [MASK]"),
        ("mlm", ["yes " * 80 + "[MASK]"], "is beyond the 64 tokens"),
        ("mlm", ["[MASK]", "--stride", 3], "--stride has no meaning for the task fill-mask"),
        ("mlm", ["[MASK]", "--top-k", 0], "`top_k` must be at least 1"),
        ("mlm", ["[MASK]", "--pair", "b"], "fill-mask takes texts"),
        ("seqcls", ["a", "--batch-size", 0], "`batch_size` must be at least 1"),
        ("seqcls", ["a", "--device", "abacus"], "`device` 'abacus' cannot be used"),
        ("seqcls", ["a", "--device", "meta"], "`device` 'meta' cannot be used"),
        ("seqcls", ["a", "--file", "b"], "not both"),
        ("seqcls", ["--file", "nowhere.txt"], "nowhere.txt cannot be read"),
        ("seqcls", ["--file", "/"], "/ cannot be read"),
        ("seqcls", ["a", "--null-answer"], "--null-answer has no meaning"),
        ("seqcls", ["a", "--task", "fill-mask"], "cls.predictions"),
        ("seqcls", ["a", "--task", "tag"], "the head is `seqcls`; the task tag needs `tokcls`"),
        ("tokcls", ["a", "--stride", 3], "`stride` needs an `aggregation`"),
        ("tokcls", ["a", "--stride", 62, "--aggregation", "max"], "`stride` must be in 0…61"),
        ("qa", ["who"], "answer takes pairs `question`, `context`"),
        ("qa", ["who", "--context", ""], "no tokens to answer with"),
        ("base", ["a", "--aggregation", "max"], "--aggregation has no meaning for the task embed"),
    ],
)
def test_bad_input(head, arguments, says, run, folder) -> None:
    complain(run("predict", folder(head), *arguments), says)


def test_no_tokenizer(run, folder, tmp_path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder("mlm") / name).read_bytes())
    complain(run("predict", tmp_path, "[MASK]"), "tokenizer")


def test_a_tokenizer_of_another_model(run, folder, tmp_path) -> None:
    for path in folder("mlm").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"] |= {f"word{i}": 99 + i for i in range(50)}
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    complain(run("predict", tmp_path, "paris is [MASK]"), "the model embeddings for 99: 50 tokens")


def test_no_numbers(run, folder, tmp_path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder("seqcls") / "model.safetensors")
    tensors["classifier.bias"].fill_(float("nan"))
    for path in folder("seqcls").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    complain(run("predict", tmp_path, "yes"), "NaN")


def test_what_is_cut_is_said(run, folder) -> None:
    outcome = run("predict", folder("seqcls"), "yes", "no " * 90)
    assert outcome.code == 0
    assert "1 of 2 texts have more than the 64 tokens" in outcome.err
    assert "text 2 with 92" in outcome.err
