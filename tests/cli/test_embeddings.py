"""`finetune --task embed` and `--task rerank`, end to end: sentence-transformers opens what comes out."""

from __future__ import annotations

import csv
import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biject.tasks.encoder import EmbeddingModel
from biject.tasks.reranker import Reranker

pytestmark = pytest.mark.usefixtures("one_thread")
WORDS = [
    "the",
    "capital",
    "of",
    "france",
    "is",
    "paris",
    "model",
    "good",
    "lost",
    "again",
    "and",
    "a",
    "b",
    "c",
    "d",
    "e",
]
QUICK = ("--epochs", 1, "--batch-size", 8, "--lr", "3e-3")
TEXTS = ["the model is good", "paris is lost again and again", "a b c"]


def text(i: int) -> str:
    """Of the vocabulary's words, another for each number."""
    return " ".join(WORDS[(i * k + k * k) % len(WORDS)] for k in range(1, 3 + i % 5))


def table(path: Path, columns: tuple[str, ...], rows: int = 40) -> Path:
    """Scores are between 0 and 1, labels one of three, texts all others."""
    values = {"score": lambda i: (i * 7 % 11) / 10, "label": lambda i: f"class {i % 3}"}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for i in range(rows):
            row = [values.get(name, lambda i, n=n: text(i * 3 + n))(i) for n, name in enumerate(columns)]
            writer.writerow(row)
    return path


KINDS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "pairs": (("anchor", "positive"), "MultipleNegativesRankingLoss", "recall@10"),
    "triplets": (
        ("anchor", "positive", "negative_1", "negative_2"),
        "MultipleNegativesRankingLoss",
        "ndcg@10",
    ),
    "scored": (("sentence1", "sentence2", "score"), "CoSENTLoss", "spearman"),
    "labelled": (("text", "label"), "BatchAllTripletLoss", "accuracy"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_embed(kind: str, run: Any, base: Path, tmp_path: Path) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    columns, loss, metric = KINDS[kind]
    data, out = table(tmp_path / "data.csv", columns), tmp_path / "run"
    outcome = run("finetune", "--model", base, "--data", data, "--task", "embed", "--out", out, *QUICK)
    assert outcome.code == 0, outcome.err + outcome.out
    assert f"DATA train: {kind}: {', '.join(columns)}" in outcome.out
    assert f"\nLOSS {loss}\n" in outcome.out
    assert f"{metric} " in outcome.out
    assert "(pass: reload, trained, embedder)" in outcome.out
    theirs = sentence_transformers.SentenceTransformer(str(out / "model"), device="cpu")
    ours = EmbeddingModel.from_pretrained(out / "model")
    assert np.abs(theirs.encode(TEXTS) - ours.encode(TEXTS)).max() <= 1e-6
    before = EmbeddingModel.from_pretrained(base).encode(TEXTS, normalize_embeddings=True)
    assert np.abs(before - ours.encode(TEXTS)).max() > 1e-3  # it was trained
    assert tomllib.loads((out / "run.toml").read_text())["embed"]["loss"] == "auto"
    card = (out / "model" / "README.md").read_text()
    assert "library_name: sentence-transformers" in card
    assert "pipeline_tag: sentence-similarity" in card
    found = run("evaluate", out, "--data", data, "--task", "embed", "--json")
    assert found.code == 0, found.err
    assert metric in json.loads(found.out)["metrics"]


def test_settings(run: Any, base: Path, tmp_path: Path) -> None:
    """Cached, Matryoshka, prompts, another pooling, not normalised."""
    data = table(tmp_path / "data.csv", ("anchor", "positive"))
    sets = ("loss=CachedMultipleNegativesRankingLoss", "mini_batch_size=3", "matryoshka_dims=[32, 8]",
            "pooling=cls", "normalize=false", "query_prompt='the capital '", "symmetric=true")  # fmt: skip
    flags = [part for one in sets for part in ("--set", f"embed.{one}")]
    given = ("finetune", "--model", base, "--data", data, "--task", "embed", "--out", tmp_path / "run")
    assert run(*given, *QUICK, *flags).code == 0
    model = EmbeddingModel.from_pretrained(tmp_path / "run" / "model")
    assert (model.sentence.modes, model.sentence.stages) == (("cls",), ())
    assert model.sentence.prompts["query"] == "the capital "
    query = model.encode_query("of france")
    assert np.abs(query - model.encode("the capital of france")).max() <= 1e-6


def test_resume_is_bit_equal(run: Any, base: Path, tmp_path: Path) -> None:
    data = table(tmp_path / "data.csv", ("anchor", "positive"))
    outcome = run("verify-resume", "--model", base, "--data", data, "--task", "embed", "--steps", 4)
    assert outcome.code == 0, outcome.err + outcome.out
    assert "PASS" in outcome.out


@pytest.mark.parametrize("loss", ["BinaryCrossEntropyLoss", "MSELoss"])
@pytest.mark.parametrize("columns", [("query", "document", "score"), ("query", "positive", "negative")])
def test_rerank(columns: tuple[str, ...], loss: str, run: Any, base: Path, tmp_path: Path) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    data, out = table(tmp_path / "data.csv", columns), tmp_path / "run"
    outcome = run("finetune", "--model", base, "--data", data, "--task", "rerank", "--out", out, *QUICK,
                  "--set", f"embed.rank_loss={loss}")  # fmt: skip
    assert outcome.code == 0, outcome.err + outcome.out
    assert f"\nLOSS {loss}\n" in outcome.out
    assert "mrr@10 " in outcome.out
    assert "(pass: reload, trained, embedder)" in outcome.out
    theirs = sentence_transformers.CrossEncoder(str(out / "model"), device="cpu")
    ours = Reranker.from_pretrained(out / "model")
    pairs = [(TEXTS[0], TEXTS[1]), (TEXTS[1], TEXTS[2]), (TEXTS[2], TEXTS[0])]
    assert np.abs(theirs.predict(pairs) - ours.predict(pairs)).max() <= 1e-6
    assert (ours.activation == "Sigmoid") == (loss == "BinaryCrossEntropyLoss")
    one, other = ours.rank(TEXTS[0], TEXTS, return_documents=True), theirs.rank(TEXTS[0], TEXTS)
    assert [hit["corpus_id"] for hit in one] == [hit["corpus_id"] for hit in other]
    assert one[0]["text"] == TEXTS[one[0]["corpus_id"]]
    found = run("evaluate", out, "--data", data, "--task", "rerank", "--json")
    assert found.code == 0, found.err


def test_adapter(run: Any, base: Path, tmp_path: Path) -> None:
    data, out = table(tmp_path / "data.csv", ("anchor", "positive")), tmp_path / "run"
    outcome = run("finetune", "--model", base, "--data", data, "--task", "embed", "--out", out, *QUICK,
                  "--method", "lora", "--targets", "all-linear", "--merge")  # fmt: skip
    assert outcome.code == 0, outcome.err + outcome.out
    assert (out / "adapter" / "adapter_config.json").is_file()
    assert EmbeddingModel.from_pretrained(out / "model").sentence.normalize


def test_plan_and_preview(run: Any, base: Path, tmp_path: Path) -> None:
    for task, columns in (("embed", ("anchor", "positive")), ("rerank", ("query", "positive", "negative"))):
        data = table(tmp_path / f"{task}.csv", columns)
        found = run("plan", "--model", base, "--data", data, "--task", task, "--json")
        assert found.code == 0, found.err
        shown = run("finetune", "--model", base, "--data", data, "--task", task, "--preview", 2)
        assert shown.code == 0, shown.err
        assert {"embed": "[CLS] good the a [SEP]", "rerank": "[CLS] capital is [SEP] france"}[
            task
        ] in shown.out


@pytest.mark.parametrize(
    ("columns", "flags", "says"),
    [
        (
            ("anchor", "positive"),
            ("--set", "embed.loss=CoSENTLoss"),
            "takes scored, and the data are pairs",
        ),
        (("text", "label"), ("--set", "embed.loss=TripletLoss"), "takes triplets, and the data are labelled"),
        (("first", "second"), (), "no columns of usual names"),
        (("text", "other"), (), "one column of texts needs one of labels"),
        (("anchor", "positive"), ("--set", "embed.scale=0"), "embed.scale"),
        (("anchor", "positive"), ("--set", "train.metric=spearman"), "'spearman' is not computed for embed"),
        (("anchor", "positive"), ("--set", "embed.matryoshka_dims=[64]"), "the model's vectors have 32"),
        (("anchor", "positive"), ("--text-column", "anchor,nothing"), "has no column 'nothing'"),
        (("anchor", "positive"), ("--task", "rerank"), "a reranker learns from query, document and score"),
        (
            ("anchor", "positive"),
            ("--task", "mlm", "--set", "embed.scale=3"),
            "`embed` is for `--task` embed or rerank",
        ),
    ],
)
def test_refused(
    columns: Any, flags: tuple[str, ...], says: str, run: Any, base: Path, tmp_path: Path
) -> None:
    data = table(tmp_path / "data.csv", columns)
    task = () if "--task" in flags else ("--task", "embed")
    outcome = run("finetune", "--model", base, "--data", data, "--out", tmp_path / "run", *task, *flags)
    assert outcome.code == 2, outcome.out
    assert says in outcome.err


def test_scores_that_are_none(run: Any, base: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text("sentence1,sentence2,score\na,b,0.5\nb,c,good\n")
    outcome = run("finetune", "--model", base, "--data", data, "--out", tmp_path / "run", "--task", "embed")
    assert outcome.code == 2
    assert "line 3, column `score`: expected a score, a number; found 'good'" in outcome.err
    data.write_text("query,document,score\na,b,0.5\nb,c,4\n")
    outcome = run("finetune", "--model", base, "--data", data, "--out", tmp_path / "run", "--task", "rerank")
    assert outcome.code == 2
    assert "line 3, column `score`: expected a score between 0 and 1, found 4" in outcome.err


def test_a_classifier_is_no_reranker(run: Any, tmp_path: Path) -> None:
    from biject.verify.reference import make_reference

    folder = make_reference("bert", "seqcls", tmp_path / "model")
    data = table(tmp_path / "data.csv", ("query", "document", "score"))
    given = ("finetune", "--model", folder, "--data", data, "--task", "rerank")
    outcome = run(*given, "--out", tmp_path / "run")
    assert outcome.code == 2
    assert "which trains one output" in outcome.err
    assert run(*given, "--out", tmp_path / "new", *QUICK, "--set", "new_head=true").code == 0
    assert Reranker.from_pretrained(tmp_path / "new" / "model").predict([("a", "b")]).shape == (1,)


def test_vectors_that_differ_fail_the_proof(run: Any, base: Path, tmp_path: Path, monkeypatch: Any) -> None:
    pytest.importorskip("sentence_transformers")
    data, out = table(tmp_path / "data.csv", ("anchor", "positive")), tmp_path / "run"
    own = EmbeddingModel.encode
    monkeypatch.setattr(EmbeddingModel, "encode", lambda self, *args, **how: own(self, *args, **how) + 1e-4)
    outcome = run("finetune", "--model", base, "--data", data, "--task", "embed", "--out", out, *QUICK)
    assert outcome.code == 1
    assert "FAIL embedder vectors" in outcome.out
