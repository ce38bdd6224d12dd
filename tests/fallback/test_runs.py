"""Must show: each architecture fine-tuned by its own class, exported, loaded by HF with nothing missing and
nothing left over, *trained* level with max abs diff 0.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tests.fallback.tiny import pictures

import biject
from biject.config.recipe import FinetuneRecipe, TrainConfig
from biject.errors import BijectWarning, ConfigError, WeightsError
from biject.runs.finetune import Finetuned, finetune

CELLS = [
    ("mpnet", "seqcls", "MPNetForSequenceClassification"),
    ("mpnet", "tokcls", "MPNetForTokenClassification"),
    ("mpnet", "qa", "MPNetForQuestionAnswering"),
    ("mpnet", "mlm", "MPNetForMaskedLM"),
    ("roformer", "seqcls", "RoFormerForSequenceClassification"),
    ("roformer", "tokcls", "RoFormerForTokenClassification"),
    ("roformer", "qa", "RoFormerForQuestionAnswering"),
    ("roformer", "mlm", "RoFormerForMaskedLM"),
    ("t5-encoder", "tokcls", "T5ForTokenClassification"),
    ("t5", "seqcls", "T5ForSequenceClassification"),
    ("t5", "qa", "T5ForQuestionAnswering"),
    ("gpt_neox", "causal", "GPTNeoXForCausalLM"),
    ("gpt_neox", "seqcls", "GPTNeoXForSequenceClassification"),
    ("gpt_neox", "tokcls", "GPTNeoXForTokenClassification"),
    ("gpt_neox", "qa", "GPTNeoXForQuestionAnswering"),
]
QUICK = {("mpnet", "seqcls"), ("roformer", "qa"), ("t5-encoder", "tokcls"), ("gpt_neox", "causal")}


def run(
    tmp_path: Path, model: Path, data: Path, task: str, *, resume: bool = False, **settings: Any
) -> tuple[Finetuned, list[str]]:
    """A short run in `tmp_path / "run"`."""
    train = {"batch_size": 8, "max_steps": 3, "lr": 1e-3} | settings.pop("train", {})
    values = {"model": str(model), "data": str(data), "task": task, "backend": "hf"} | settings
    recipe = FinetuneRecipe(**values, train=TrainConfig(**train))
    log: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BijectWarning)
        return finetune(recipe, out=tmp_path / "run", log=log.append, resume=resume), log


@pytest.mark.parametrize(
    ("name", "task", "architecture"),
    [pytest.param(*c, marks=() if c[:2] in QUICK else pytest.mark.slow) for c in CELLS],
    ids=[f"{c[0]}-{c[1]}" for c in CELLS],
)
def test_trained_exported_and_proved(
    name: str, task: str, architecture: str, checkpoint: Any, write_data: Callable[..., Path], tmp_path: Path
) -> None:
    model, data = checkpoint(name), write_data(tmp_path / "data", "mlm" if task == "causal" else task)
    done, log = run(tmp_path, model, data, task)
    assert done.passed
    assert done.report is not None
    assert [level.name for level in done.report.levels] == ["reload", "trained"]
    compared = [
        check for level in done.report.levels for check in level.checks if check.max_abs_diff is not None
    ]
    assert len(compared) > 2
    assert {check.max_abs_diff for check in compared} == {0}
    assert {check.case for check in compared} >= {"alone", "right-padded", "data 1"}
    assert any(line.startswith("BACKEND hf") for line in log)
    folder = done.folder / "model"
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == [architecture]
    kind = getattr(transformers, architecture)
    _, info = kind.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    assert (folder / "tokenizer.json").read_bytes() == (model / "tokenizer.json").read_bytes()
    assert (done.folder / "report.html").stat().st_size > 10_000
    assert (done.folder / "insights.json").is_file()


def test_a_decoder_that_the_file_lacks_is_no_head(checkpoint: Any, write_data: Any, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"transformer\.decoder\..*would be random"):
        run(tmp_path, checkpoint("t5-encoder"), write_data(tmp_path / "data", "seqcls"), "seqcls")
    assert not (tmp_path / "run").exists()


def test_a_model_that_sees_ahead_is_no_causal_one(checkpoint: Any, write_data: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="RoFormerForCausalLM sees the tokens that it should predict"):
        run(tmp_path, checkpoint("roformer"), write_data(tmp_path / "data", "mlm"), "causal")


def test_the_settings_that_were_there_stay(checkpoint: Any, write_data: Any, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    for path in checkpoint("mpnet").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text()) | {"my_key": {"a": [1, 2]}}
    (folder / "config.json").write_text(json.dumps(config, indent=3))
    (folder / "notes").mkdir()
    (folder / "notes" / "a.txt").write_text("kept")
    done, _ = run(tmp_path, folder, write_data(tmp_path / "data", "seqcls"), "seqcls")
    model = done.folder / "model"
    text = (model / "config.json").read_text()
    assert '\n   "my_key"' in text  # in the file's own style
    changed = {key for key, value in json.loads(text).items() if config.get(key) != value} | {
        key for key in config if key not in json.loads(text)
    }
    assert changed == {"architectures", "id2label", "label2id", "problem_type"}
    assert (model / "notes" / "a.txt").read_text() == "kept"
    record = json.loads((model / "biject.json").read_text())
    assert record["head"] == "seqcls"
    assert set(record["config"]) == changed
    assert record["new_parameters"] == [
        f"classifier.{part}.{kind}" for part in ("dense", "out_proj") for kind in ("bias", "weight")
    ]


def test_bfloat16_is_cast_and_proved(checkpoint: Any, write_data: Any, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", "seqcls")
    done, _ = run(tmp_path, checkpoint("gpt_neox"), data, "seqcls", dtype="bfloat16")
    assert done.passed
    assert json.loads((done.folder / "model" / "config.json").read_text())["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("name", "architecture"),
    [("swin", "SwinForImageClassification"), ("resnet", "ResNetForImageClassification")],
)
def test_pictures(name: str, architecture: str, checkpoint: Any, tmp_path: Path) -> None:
    data = pictures(tmp_path / "data")
    done, _ = run(tmp_path, checkpoint(name), data, "imgcls")
    assert done.passed
    folder = done.folder / "model"
    assert json.loads((folder / "config.json").read_text())["architectures"] == [architecture]
    found = biject.pipeline(folder, backend="hf")(str(data / "dark" / "0.png"))
    theirs = transformers.AutoModelForImageClassification.from_pretrained(folder)
    pixels = biject.AutoImageProcessor.from_pretrained(folder)([str(data / "dark" / "0.png")])["pixel_values"]
    with torch.no_grad():
        scores = theirs(pixel_values=pixels).logits[0].softmax(-1)
    for row in found:  # 3e-8 apart: a softmax among the probabilities of a batch, and alone
        assert row["score"] == pytest.approx(float(scores[theirs.config.label2id[row["label"]]]), abs=1e-6)
