"""Adapters' folders where a model's folder is taken: every command, the tokenizer, what is odd about them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import biject
from biject.config.adapter import LoraConfig
from biject.errors import CheckpointError
from biject.pretrained import load
from biject.tasks.pipeline import pipeline
from biject.verify.reference import make_reference


def adapter_on(base: Path, folder: Path, **options: Any) -> Path:
    torch.manual_seed(0)
    model = load(base, **options)
    model.add_adapter(LoraConfig(r=4, lora_alpha=16, init_lora_weights=False))
    model.save_adapter(folder)
    return folder


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("adapters")
    adapter_on(make_reference("bert", "seqcls", place / "base"), place / "adapter")
    adapter_on(make_reference("gpt2", "causal", place / "gpt2"), place / "story")
    adapter_on(place / "gpt2", place / "other")
    return place


def values(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_predict_and_pipeline_compute_the_adapter(run, top: Path) -> None:
    outcome = run("predict", top / "adapter", "the quick fox", "--json")
    assert outcome.code == 0, outcome.err
    found, merged, plain = (
        pipe(["the quick fox"], top_k=1)[0][0]["score"]
        for pipe in (pipeline(top / "adapter"), _merged(top), pipeline(top / "base"))
    )
    assert found == pytest.approx(merged, abs=1e-5)
    assert abs(found - plain) > 1e-4
    assert str(found)[:6] in outcome.out


def _merged(top: Path) -> Any:
    model = load(top / "adapter")
    model.merge_adapter()
    return pipeline("text-classification", model=model)


def test_generate_continues_with_the_adapter(run, top: Path) -> None:
    outcome = run("generate", top / "story", "the quick", "--greedy", "--max-new-tokens", "8", "--json")
    assert outcome.code == 0, outcome.err
    model = load(top / "story")
    ids = torch.tensor(biject.AutoTokenizer.from_pretrained(top / "story")("the quick").input_ids)
    expected = model.generate(ids, do_sample=False, max_new_tokens=8)
    plain = load(top / "gpt2").generate(ids, do_sample=False, max_new_tokens=8)
    text = biject.AutoTokenizer.from_pretrained(top / "gpt2").decode(expected[0][ids.shape[1] :].tolist())
    assert text.strip()
    assert text.strip() in json.dumps(json.loads(outcome.out), ensure_ascii=False)
    assert not torch.equal(expected, plain)


def test_evaluate_measures_the_adapter(run, top: Path, tmp_path: Path) -> None:
    labels = list(load(top / "base").id2label.values())
    rows = "".join(f"the fox {i},{labels[i % len(labels)]}\n" for i in range(12))
    (tmp_path / "rows.csv").write_text("text,label\n" + rows)
    losses = {}
    for name in ("adapter", "base"):
        outcome = run("evaluate", top / name, "--data", tmp_path / "rows.csv", "--json", "--device", "cpu")
        assert outcome.code == 0, outcome.err
        losses[name] = json.loads(outcome.out)["metrics"]["loss"]
    merged = load(top / "adapter")
    merged.merge_adapter()
    merged.save_pretrained(tmp_path / "merged")
    outcome = run(
        "evaluate", tmp_path / "merged", "--data", tmp_path / "rows.csv", "--json", "--device", "cpu"
    )
    assert losses["adapter"] == pytest.approx(json.loads(outcome.out)["metrics"]["loss"], abs=1e-5)
    assert losses["adapter"] != pytest.approx(losses["base"], abs=1e-5)


def test_evaluate_takes_a_head_that_only_the_adapter_has(run, tmp_path: Path) -> None:
    base = make_reference("bert", "base", tmp_path / "base")
    adapter_on(base, tmp_path / "adapter", head="seqcls", new_head={"labels": ["no", "yes"]})
    (tmp_path / "rows.csv").write_text("text,label\nthe fox,yes\nthe dog,no\n")
    outcome = run(
        "evaluate", tmp_path / "adapter", "--data", tmp_path / "rows.csv", "--json", "--device", "cpu"
    )
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["task"] == "seqcls"


def test_finetune_does_not_begin_with_an_adapter(run, top: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,label\nthe fox,a\nthe dog,b\n")
    outcome = run(
        *("finetune", "--model", top / "adapter", "--data", tmp_path / "rows.csv", "--task", "seqcls"),
        *("--out", tmp_path / "run"),
    )
    assert outcome.code == 2
    assert "is an adapter" in outcome.err
    assert "biject merge" in outcome.err


def test_the_tokenizer_is_its_own_or_the_bases(top: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(top / "adapter", tmp_path / "own"))
    assert biject.AutoTokenizer.from_pretrained(own)("fox").input_ids == (
        biject.AutoTokenizer.from_pretrained(top / "base")("fox").input_ids
    )
    (own / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nfox\n")
    assert biject.AutoTokenizer.from_pretrained(own)("fox").input_ids == [[2, 5, 3]]


def test_inspect_says_what_it_is(run, top: Path) -> None:
    outcome = run("inspect", top / "adapter", "--json")
    assert outcome.code == 0, outcome.out
    found = json.loads(outcome.out)
    assert found["base"] == str(top / "base")
    assert (found["rank"], found["alpha"], found["head"]) == (4, 16, "seqcls")
    assert found["targets"] == ["query", "value"] or all(
        "query" in t or "value" in t for t in found["targets"]
    )
    assert found["num_parameters"] > 0
    assert found["model_type"] == "bert"
    text = run("inspect", top / "adapter")
    assert "LoRA" in text.out
    assert str(top / "base")[:20] in text.out


def test_inspect_needs_no_torch(top: Path) -> None:
    script = (
        "import sys\nfrom biject.cli.main import main\n"
        f"assert main(['inspect', {str(top / 'adapter')!r}]) == 0\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base_model_name_or_path": "/nowhere/at/all"}, "is not there"),
        ({"base_model_name_or_path": None}, "names no base"),
        ({"peft_type": "IA3"}, "IA3"),
        ({"r": 3}, "has rank 3"),
        ({"lora_bias": True}, "lora_bias"),
    ],
)
def test_inspect_names_what_prevents_loading(run, top: Path, tmp_path: Path, changes, message: str) -> None:
    folder = Path(shutil.copytree(top / "adapter", tmp_path / "adapter"))
    values(folder, **changes)
    outcome = run("inspect", folder, "--json")
    assert outcome.code == 1, outcome.out
    assert any(message in problem for problem in json.loads(outcome.out)["problems"]), outcome.out


def test_inspect_sees_another_base(run, top: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(top / "adapter", tmp_path / "adapter"))
    values(folder, base_model_name_or_path=str(top / "gpt2"))
    found = json.loads(run("inspect", folder, "--json").out)
    assert any("not in its base" in problem for problem in found["problems"])
    assert any("weights are others" in problem for problem in found["problems"])


def test_a_base_beside_the_adapter_and_one_that_moved(top: Path, tmp_path: Path, monkeypatch) -> None:
    folder = Path(shutil.copytree(top / "adapter", tmp_path / "adapter"))
    shutil.copytree(top / "base", tmp_path / "moved")
    values(folder, base_model_name_or_path="../moved")
    assert load(folder).source.folder.resolve() == (tmp_path / "moved").resolve()
    values(folder, base_model_name_or_path="moved")
    monkeypatch.chdir(tmp_path)  # as PEFT finds it
    assert load(folder).head_name == "seqcls"
    values(folder, base_model_name_or_path="/gone/base")
    with pytest.raises(CheckpointError, match=r"'/gone/base'.* with adapter="):
        load(folder)
    assert load(top / "base", adapter=folder).head_name == "seqcls"


def test_an_adapter_of_an_adapter_is_refused(top: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(top / "adapter", tmp_path / "adapter"))
    values(folder, base_model_name_or_path=str(top / "adapter"))
    with pytest.raises(CheckpointError, match="an adapter itself: merge that one first"):
        load(folder)


def test_verify_export_takes_it(run, top: Path) -> None:
    outcome = run("verify-export", top / "adapter", "--prompt", "the quick fox")
    assert outcome.code == 0, outcome.out
    assert "PASS adapter missing none; unexpected none" in outcome.out
    wrong = run("verify-export", top / "story", "--source", top / "base")
    assert wrong.code == 1
    assert "FAIL stored" in wrong.out
