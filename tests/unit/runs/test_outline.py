"""The outline of a recipe has the numbers of the model that training makes: trained, frozen, in codes."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import pytest

from biject.config.adapter import LoraConfig
from biject.config.recipe import FinetuneRecipe, TrainConfig
from biject.nn.quantised import QuantisedLinear
from biject.runs.outline import Outline
from biject.runs.prepare import prepare, read_material
from biject.verify.reference import make_reference

WAYS: dict[str, dict[str, Any]] = {
    "full": {},
    "frozen": {"train": TrainConfig(freeze=("embed", "layers.0"))},
    "lora": {"method": "lora", "adapter": LoraConfig(r=4, target_modules="all-linear")},
    "biases": {"method": "lora", "adapter": LoraConfig(r=2, bias="all", rank_pattern={"query": 5})},
    "pissa": {"method": "lora", "adapter": LoraConfig(r=2, init_lora_weights="pissa")},
    "nf4": {"method": "qlora", "adapter": LoraConfig(r=4)},
    "int8": {"method": "qlora", "quantization": "int8", "adapter": LoraConfig(r=4)},
}


@pytest.mark.parametrize("head", ["base", "seqcls"])
@pytest.mark.parametrize("way", WAYS)
def test_the_outline_is_the_model(
    way: str, head: str, tmp_path: Path, write_data: Callable[..., Path]
) -> None:
    if way in ("nf4", "int8"):
        pytest.importorskip("bitsandbytes")
    model = make_reference("bert", head, tmp_path / "model")
    recipe = FinetuneRecipe(
        model=str(model), data=str(write_data(tmp_path, "seqcls")), task="seqcls", new_head=True, **WAYS[way]
    )
    outline = Outline(recipe, read_material(recipe))
    made = prepare(recipe).model
    if recipe.train.freeze:
        made.requires_grad_(False)
        for name, parameter in made.named_parameters():
            parameter.requires_grad_(not name.startswith(("embed.", "layers.0.")))
    held = outline.parameters()
    real = [parameter.numel() for parameter in made.parameters() if parameter.requires_grad]
    assert sum(prod(one.shape) for one in held if one.trained) == sum(real)
    codes = [one for one in made.modules() if isinstance(one, QuantisedLinear)]
    assert sum(prod(one.shape) for one in held if one.quantized) == sum(
        one.in_features * one.out_features for one in codes
    )
    assert all(parameter.is_meta for parameter in outline.model.parameters()), "no weight was read"
