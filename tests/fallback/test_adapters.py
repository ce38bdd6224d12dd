"""LoRA by PEFT: its files, read by it, merged by it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from tests.fallback.test_runs import run

import biject
from biject.config.adapter import LoraConfig
from biject.errors import ConfigError, WeightsError
from biject.fallback.loading import load_fallback

IDS = torch.tensor([[2, 9, 11, 30, 3]])


def adapted(folder: Path, **settings: Any) -> Any:
    torch.manual_seed(1)
    model = load_fallback(folder, head="seqcls", new_head={"labels": ["a", "b", "c"]})
    model.add_adapter(LoraConfig(r=4, lora_alpha=8, **settings))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.1)
    return model.eval()


@pytest.mark.parametrize("name", ["mpnet", "gpt_neox"])
@pytest.mark.filterwarnings("ignore::biject.errors.BijectWarning")
def test_the_folder_is_what_peft_writes(name: str, checkpoint: Any, tmp_path: Path) -> None:
    model = adapted(checkpoint(name))
    model.save_adapter(tmp_path / "ours")
    model.hf.save_pretrained(tmp_path / "peft")
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "ours" / file).read_bytes() == (tmp_path / "peft" / file).read_bytes()
    config = json.loads((tmp_path / "ours" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(checkpoint(name))
    assert config["task_type"] == "SEQ_CLS"
    kind = getattr(transformers, model.class_name)
    base = kind.from_pretrained(checkpoint(name), num_labels=3)
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "ours").eval()
    with torch.no_grad():
        assert torch.equal(theirs(input_ids=IDS).logits, model(input_ids=IDS).logits)


@pytest.mark.filterwarnings("ignore::biject.errors.BijectWarning")
def test_what_is_new_is_stored_under_any_name(checkpoint: Any) -> None:
    """PEFT knows heads by a list of names; what started random is saved whatever it is called."""
    model = adapted(checkpoint("t5"))
    saved = peft.get_peft_model_state_dict(model.hf, save_embedding_layers=False)
    assert model.fresh
    for name in model.fresh:
        assert f"base_model.model.{name}" in saved
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all("lora_" in name or "modules_to_save" in name for name in trained)


@pytest.mark.filterwarnings("ignore::biject.errors.BijectWarning")
def test_a_type_that_peft_has_no_targets_for_takes_every_linear(checkpoint: Any) -> None:
    with pytest.warns(biject.BijectWarning, match="PEFT has no targets of its own for `mpnet`"):
        model = adapted(checkpoint("mpnet"))
    names = {name.rpartition(".lora_A")[0] for name, _ in model.named_parameters() if ".lora_A." in name}
    assert {name.rpartition(".")[2] for name in names} == {"q", "k", "v", "o", "dense"}
    assert not any("classifier" in name for name in names)


@pytest.mark.filterwarnings("ignore::biject.errors.BijectWarning")
def test_saved_and_loaded_on_its_base(checkpoint: Any, tmp_path: Path) -> None:
    model = adapted(checkpoint("mpnet"))
    model.save_adapter(tmp_path / "a")
    with torch.no_grad():
        expected = model(input_ids=IDS).logits
        again = biject.AutoModelForSequenceClassification.from_pretrained(tmp_path / "a", backend="hf")
        assert torch.equal(again(input_ids=IDS).logits, expected)
        assert again.id2label == {0: "a", 1: "b", 2: "c"}
        beside = biject.AutoModelForSequenceClassification.from_pretrained(
            checkpoint("mpnet"), adapter=tmp_path / "a", backend="hf"
        )
        assert torch.equal(beside(input_ids=IDS).logits, expected)
        with model.disable_adapter():
            assert not torch.equal(model(input_ids=IDS).logits, expected)
        before = model(input_ids=IDS).logits
        model.merge_adapter()
        # One product with W + BA in place of two: float32's rounding of logits up to 0.02 (4e-9 apart).
        assert torch.allclose(model(input_ids=IDS).logits, before, rtol=0, atol=1e-7)
        model.save_pretrained(tmp_path / "merged")
        merged = load_fallback(tmp_path / "merged")
        assert torch.equal(merged(input_ids=IDS).logits, model(input_ids=IDS).logits)


@pytest.mark.filterwarnings("ignore::biject.errors.BijectWarning")
def test_what_does_not_fit_is_refused(checkpoint: Any, tmp_path: Path) -> None:
    model = adapted(checkpoint("mpnet"))
    model.save_adapter(tmp_path / "a")
    with pytest.raises(ConfigError, match=r"save_adapter\(folder\) writes the adapter alone"):
        model.save_pretrained(tmp_path / "b")
    with pytest.raises(ConfigError, match="has an adapter already"):
        model.add_adapter(LoraConfig())
    with pytest.raises(ConfigError, match="trained on a base whose weights are others"):
        biject.AutoModelForSequenceClassification.from_pretrained(
            checkpoint("mpnet", num_hidden_layers=3), adapter=tmp_path / "a", backend="hf"
        )
    with pytest.raises(ConfigError, match="is for the head 'seqcls'"):
        biject.AutoModelForTokenClassification.from_pretrained(
            checkpoint("mpnet"), adapter=tmp_path / "a", backend="hf", num_labels=3
        )
    other = json.loads((tmp_path / "a" / "adapter_config.json").read_text()) | {"r": 2}
    shutil.copytree(tmp_path / "a", tmp_path / "c")
    (tmp_path / "c" / "adapter_config.json").write_text(json.dumps(other))
    with pytest.raises(WeightsError, match="does not fit this model"):
        biject.AutoModelForSequenceClassification.from_pretrained(tmp_path / "c", backend="hf")
    plain = load_fallback(checkpoint("mpnet"))
    for call in (plain.merge_adapter, plain.disable_adapter, lambda: plain.save_adapter(tmp_path / "d")):
        with pytest.raises(ConfigError, match="no adapter"):
            call()
    with pytest.raises(ConfigError, match="PEFT cannot add the adapter"):
        plain.add_adapter(LoraConfig(target_modules=("nothing",)))


@pytest.mark.parametrize(
    ("name", "task"),
    [("mpnet", "tokcls"), pytest.param("gpt_neox", "causal", marks=pytest.mark.slow),
     pytest.param("t5", "seqcls", marks=pytest.mark.slow)],
)  # fmt: skip
def test_a_run_with_an_adapter(
    name: str, task: str, checkpoint: Any, write_data: Any, tmp_path: Path
) -> None:
    data = write_data(tmp_path / "data", "mlm" if task == "causal" else task)
    done, log = run(tmp_path, checkpoint(name), data, task, method="lora", merge=True)
    assert done.passed
    assert done.report is not None
    assert [level.name for level in done.report.levels] == ["adapter", "reload", "trained"]
    assert {c.max_abs_diff for level in done.report.levels for c in level.checks} <= {0, None}
    assert any(line.startswith("ADAPTER by PEFT, rank 8") for line in log)
    config = json.loads((done.folder / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(checkpoint(name))
    assert (done.folder / "adapter" / "README.md").is_file()


@pytest.mark.filterwarnings("ignore::biject.errors.BijectWarning")
def test_a_head_that_is_frozen_with_the_base(checkpoint: Any, tmp_path: Path) -> None:
    """Without a task PEFT trains only what is named."""
    model = load_fallback(checkpoint("mpnet"), head="seqcls", new_head={"labels": ["a", "b"]})
    model.save_pretrained(tmp_path / "base")
    hf = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "base")
    config = peft.LoraConfig(r=2, target_modules=["q"], init_lora_weights=False)
    theirs = peft.get_peft_model(hf, config).eval()
    theirs.save_pretrained(tmp_path / "peft")
    ours = load_fallback(tmp_path / "base", head="seqcls", adapter=tmp_path / "peft")
    ours.save_adapter(tmp_path / "ours")
    base = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "base")
    other = peft.PeftModel.from_pretrained(base, tmp_path / "ours").eval()
    with torch.no_grad():
        expected = theirs(input_ids=IDS).logits
        assert torch.equal(ours(input_ids=IDS).logits, expected)
        assert torch.equal(other(input_ids=IDS).logits, expected)
