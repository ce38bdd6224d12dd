"""Adapters on tables that are tied: merged where both stay one, refused where they would not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from biject import LoraConfig
from biject.adapters.state import adapters_of
from biject.errors import WeightsError
from biject.pretrained import PretrainedModel, load
from biject.verify.reference import make_reference

IDS = torch.tensor([[5, 6, 7, 8, 9]])
TABLES = {"llama": ("causal", "embed_tokens", "lm_head"), "bert": ("mlm", "word_embeddings", "decoder")}


def adapted(model_type: str, tmp_path: Path, **settings: Any) -> PretrainedModel:
    torch.manual_seed(0)
    tied = {"tie_word_embeddings": True}
    model = load(make_reference(model_type, TABLES[model_type][0], tmp_path / "base", overrides=tied))
    assert model.config.tied_output
    model.add_adapter(LoraConfig(r=2, **settings))
    return model


def trained(model: PretrainedModel, *, alike: bool = False) -> None:
    """Change the adapter's own matrices, one after the other, or all by the same numbers."""
    with torch.no_grad():
        for name, parameter in adapters_of(model).adapters["default"].own.items():
            if name.endswith(".weight"):
                if alike:
                    torch.manual_seed(1)
                parameter.add_(0.05 * torch.randn_like(parameter))


def test_tied_tables_are_not_merged_one_by_one(tmp_path: Path) -> None:
    model = adapted("bert", tmp_path, target_modules=["word_embeddings"], init_lora_weights=False)
    with pytest.raises(WeightsError, match="tied"):
        model.merge_adapter()
    assert model.active_adapters == ("default",)


@pytest.mark.parametrize("which", ["table", "output", "both"])
@pytest.mark.parametrize("model_type", TABLES)
def test_a_table_that_was_trained_whole_is_not_lost(model_type: str, which: str, tmp_path: Path) -> None:
    _, table, output = TABLES[model_type]
    saved = {"table": (table,), "output": (output,), "both": (table, output)}[which]
    model = adapted(model_type, tmp_path, modules_to_save=saved)
    trained(model)
    expected = model(IDS).logits
    with pytest.raises(WeightsError, match="tied to the model's other table"):
        model.merge_adapter()
    assert model.active_adapters == ("default",)
    assert torch.equal(model(IDS).logits, expected)


def test_an_output_whose_rest_was_drawn_is_not_lost(tmp_path: Path) -> None:
    """PiSSA's parameter of its own stands in the place of the tied one."""
    model = adapted("llama", tmp_path, target_modules=["lm_head"], init_lora_weights="pissa")
    with pytest.raises(WeightsError, match="tied to the model's other table"):
        model.merge_adapter()


@pytest.mark.parametrize("model_type", TABLES)
def test_tables_that_stay_one_are_merged(model_type: str, tmp_path: Path) -> None:
    _, *both = TABLES[model_type]
    model = adapted(model_type, tmp_path, modules_to_save=both)
    trained(model, alike=True)
    expected, before = model(IDS).logits, load(tmp_path / "base").tokens.weight
    model.merge_adapter()
    assert model.get_output_embeddings().weight is model.tokens.weight
    assert not torch.equal(model.tokens.weight, before)
    model.save_pretrained(tmp_path / "merged")
    assert torch.equal(load(tmp_path / "merged")(IDS).logits, expected)  # tables trained whole: no sums


def test_an_output_that_was_not_trained_is_merged(tmp_path: Path) -> None:
    model = adapted("llama", tmp_path, modules_to_save=("lm_head",))
    model.merge_adapter()
    assert model.get_output_embeddings().weight is model.tokens.weight
