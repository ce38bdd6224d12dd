"""Runs that train an adapter: how the base is held, what is added to it, and what is written at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from biject.adapters.state import adapters_of
from biject.checkpoint.adapter import is_adapter
from biject.checkpoint.hub import resolve_folder
from biject.config.recipe import FinetuneRecipe
from biject.errors import InputError
from biject.fallback.model import FallbackModel
from biject.nn.quantised import QuantisedLinear
from biject.pretrained import PretrainedModel

ADAPTER = "adapter"
"""Where in a run's folder PEFT's files stand."""


def refuse_adapter(recipe: FinetuneRecipe) -> None:
    """A run begins with a checkpoint.

    Raises:
        InputError: The recipe's model is an adapter's folder.
    """
    if is_adapter(resolve_folder(recipe.model, revision=recipe.revision)):
        raise InputError(
            f"`model` {recipe.model} is an adapter: `biject merge --adapter {recipe.model} --out DIR` makes "
            "it a checkpoint to go on from; an interrupted run goes on with --resume."
        )


def quantised(recipe: FinetuneRecipe) -> dict[str, Any]:
    """`load`'s arguments for the base of a recipe's method; none for a base in its own numbers."""
    if recipe.method != "qlora":
        return {}
    found: dict[str, Any] = {"quantization": recipe.quantization}
    if recipe.quantization != "int8":
        found["double_quant"] = recipe.double_quant
        found["compute_dtype"] = "bfloat16" if recipe.train.precision == "bf16" else "float32"
    return found


def add_adapter(model: PretrainedModel | FallbackModel, recipe: FinetuneRecipe) -> str:
    """Give the model the recipe's adapter; a line for the user about it.

    Raises:
        ConfigError: Its targets are not there.
    """
    model.add_adapter(recipe.adapter)
    if isinstance(model, FallbackModel):
        some, every = model.num_parameters(only_trainable=True), model.num_parameters()
        return (
            f"ADAPTER by PEFT, rank {recipe.adapter.r}: {some:,} of {every:,} parameters train "
            f"({100 * some / every:.2f} %)"
        )
    adapter = adapters_of(model).adapters["default"]
    adapter.base = recipe.model
    if recipe.method == "qlora":
        adapter.record |= {"quantization": recipe.quantization, "double_quant": recipe.double_quant}
    some, every = model.num_parameters(only_trainable=True), number_of_weights(model)
    whole = len({name.rpartition(".")[0] for name in adapter.saved})
    more = f", {whole} module{'s' if whole > 1 else ''} whole" if whole else ""
    held = f" on a base in {recipe.quantization}" if recipe.method == "qlora" else ""
    return (
        f"ADAPTER rank {recipe.adapter.r} on {len(adapter.parts)} modules{more}{held}: {some:,} of {every:,} "
        f"parameters train ({100 * some / every:.2f} %)"
    )


def number_of_weights(model: PretrainedModel) -> int:
    """Numbers that the model stands for, codes of quantised matrices unpacked; an adapter's count, too."""
    quantised = [module for module in model.modules() if isinstance(module, QuantisedLinear)]
    codes = {id(module.weight) for module in quantised}
    plain = sum(p.numel() for p in model.parameters() if id(p) not in codes)
    return plain + sum(module.in_features * module.out_features for module in quantised)


def adapter_folder(run: Path) -> Path:
    """Where a run's adapter is written."""
    return run / ADAPTER
