"""Dropout switched off: no family draws a random number in training any more; the export keeps its rates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from biject.config.adapter import LoraConfig
from biject.families import families
from biject.nn.planner import draws_random_numbers
from biject.nn.without_dropout import switch_off_dropout
from biject.pretrained import PretrainedModel, load
from biject.verify.reference import make_reference

TEXTS = [name for name, family in families().items() if "seqcls" in family.heads]


def twice(model: PretrainedModel) -> bool:
    """Whether two passes in training differ."""
    ids = torch.arange(5, 29).view(2, 12)
    first, second = (model(input_ids=ids).logits for _ in range(2))
    return not torch.equal(first, second)


@pytest.mark.parametrize("name", TEXTS)
def test_nothing_is_drawn(name: str, tmp_path: Path) -> None:
    folder = make_reference(name, "seqcls", tmp_path / "model")
    model = load(folder).train()
    assert twice(model)
    switch_off_dropout(model)
    assert not twice(model)
    assert not draws_random_numbers(model)
    model.save_pretrained(tmp_path / "again")
    before, after = (json.loads((one / "config.json").read_text()) for one in (folder, tmp_path / "again"))
    assert before == after


def test_an_adapters_too(tmp_path: Path) -> None:
    model = load(make_reference("llama", "seqcls", tmp_path / "model", overrides={"attention_dropout": 0.0}))
    model.add_adapter(LoraConfig(r=2, lora_dropout=0.5, init_lora_weights=False))
    model.train()
    assert twice(model)
    switch_off_dropout(model)
    assert not twice(model)
