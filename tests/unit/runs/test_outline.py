"""The outline of a recipe has the numbers of the model that training makes: trained, frozen, in codes."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch

from biject.config.adapter import LoraConfig
from biject.config.preference import PreferenceConfig
from biject.config.recipe import FinetuneRecipe, TrainConfig
from biject.families import families
from biject.nn.planner import draws_random_numbers
from biject.nn.quantised import QuantisedLinear
from biject.nn.transformer import Transformer
from biject.runs.outline import Outline
from biject.runs.plan import plan_recipe
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


def over_pairs(folder: Path, data: Path, *, off: bool, **more: Any) -> FinetuneRecipe:
    name = more.pop("name", "bert")
    model = make_reference(name, "seqcls", folder / f"model-{name}")
    return FinetuneRecipe(
        model=str(model), data=str(data), task="reward", new_head=True,
        preference=PreferenceConfig(disable_dropout=off), **more,
    )  # fmt: skip


@pytest.mark.parametrize("off", [True, False])
def test_a_run_over_pairs_is_planned_with_the_dropout_that_it_has(
    tmp_path: Path, write_data: Callable[..., Path], *, off: bool
) -> None:
    lora = LoraConfig(r=2, lora_dropout=0.1)
    recipe = over_pairs(
        tmp_path, write_data(tmp_path, "reward"), off=off, method="lora", adapter=lora, numerics="exact"
    )
    outline = Outline(recipe, read_material(recipe))
    assert draws_random_numbers(prepare(recipe).model) is not off
    assert draws_random_numbers(outline.model) is not off
    assert outline.kept(recipe, torch.device("cpu")).adapter_dropout is not off


def test_what_draws_nothing_keeps_no_noise(tmp_path: Path, write_data: Callable[..., Path]) -> None:
    data = write_data(tmp_path, "reward")
    kept = []
    for off in (True, False):
        recipe = over_pairs(tmp_path / str(off), data, off=off, numerics="fast")
        memory = plan_recipe(recipe).memory
        assert memory is not None
        kept.append(memory.activations)
    assert kept[0] < kept[1]


@pytest.mark.parametrize("name", [name for name, one in families().items() if "seqcls" in one.heads])
def test_no_rate_of_any_family_is_left(name: str, tmp_path: Path, write_data: Callable[..., Path]) -> None:
    recipe = over_pairs(tmp_path, write_data(tmp_path, "reward"), off=True, name=name)
    outline = Outline(recipe, read_material(recipe))
    with torch.device("meta"):
        assert not draws_random_numbers(Transformer(outline.config))
