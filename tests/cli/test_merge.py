"""`biject merge`: lines, JSON, samples with and without labels, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from biject.config.adapter import LoraConfig
from biject.pretrained import load
from biject.verify.reference import make_reference


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("merge")
    for name, (family, head) in {"bert": ("bert", "seqcls"), "llama": ("llama", "causal")}.items():
        model = load(make_reference(family, head, place / name))
        torch.manual_seed(0)
        model.add_adapter(LoraConfig(r=4, init_lora_weights=False))
        model.save_adapter(place / f"{name}-adapter")
    return place


def test_lines_and_files(run, top: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("the quick fox\nthe lazy dog\n")
    outcome = run(
        *("merge", "--adapter", top / "llama-adapter", "--out", tmp_path / "out"),
        *("--sample", tmp_path / "rows.txt"),
    )
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    assert lines[0] == "SAMPLE 2 texts of rows.txt"
    assert lines[1].startswith("MERGED into the original base, float32: max abs diff ")
    assert "perplexity" in lines[1]
    assert lines[-1].startswith("VERDICT PASS")
    assert json.loads((tmp_path / "out" / "merge_receipt.json").read_text())["sample"].startswith("2 texts")
    again = run("merge", "--adapter", top / "llama-adapter", "--out", tmp_path / "out")
    assert again.code == 2
    assert "exists" in again.err
    forced = run("merge", "--adapter", top / "llama-adapter", "--out", tmp_path / "out", "--force", "--json")
    assert forced.code == 0, forced.err
    assert json.loads(forced.out)["passed"] is True
    checked = run("merge", "--adapter", top / "llama-adapter", "--check", tmp_path / "out")
    assert checked.code == 0, checked.out


def test_a_table_with_labels_gives_accuracy(run, top: Path, tmp_path: Path) -> None:
    names = list(load(top / "bert").id2label.values())
    rows = "".join(f"the fox {i},{names[i % len(names)]}\n" for i in range(6))
    (tmp_path / "rows.csv").write_text("text,label\n" + rows)
    outcome = run(
        *("merge", "--adapter", top / "bert-adapter", "--out", tmp_path / "out", "--json"),
        *("--sample", tmp_path / "rows.csv"),
    )
    assert outcome.code == 0, outcome.err
    adapter, merged = json.loads(outcome.out)["results"]["original"]["accuracy"]
    assert adapter == merged


def test_a_base_is_no_merge_of_an_adapter(run, top: Path) -> None:
    outcome = run("merge", "--adapter", top / "bert-adapter", "--check", top / "bert")
    assert outcome.code == 1
    assert "VERDICT FAIL" in outcome.out
    assert "100 % of the adapter's effect" in outcome.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--out"),
        (("--out", "a", "--check", "b"), "--out"),
        (("--out", "a", "--text-column", "x"), "--sample"),
        (("--out", "a", "--target", "dequantised"), "not trained on a quantised base"),
    ],
)
def test_wrong_usage(run, top: Path, tmp_path: Path, monkeypatch, arguments, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = run("merge", "--adapter", top / "bert-adapter", *arguments)
    assert outcome.code == 2
    assert message in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_a_label_that_the_model_does_not_have(run, top: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,label\nthe fox,purple\n")
    outcome = run(
        *("merge", "--adapter", top / "bert-adapter", "--out", tmp_path / "out"),
        *("--sample", tmp_path / "rows.csv"),
    )
    assert outcome.code == 2
    assert "'purple' is none of the model's" in outcome.err
    assert not (tmp_path / "out").exists()


def test_the_adapter_must_be_one(run, top: Path, tmp_path: Path) -> None:
    outcome = run("merge", "--adapter", top / "bert", "--out", tmp_path / "out")
    assert outcome.code == 2
    assert "is no adapter" in outcome.err
