"""The model of a recipe without values: which parameters there are, which are trained, which are codes."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import nn

from biject.adapters.make import add_adapter
from biject.config.model import ModelConfig
from biject.config.quantization import Quantization, requested
from biject.config.recipe import FinetuneRecipe
from biject.identify import Identity, identify
from biject.nn.lora import LoraModule
from biject.nn.lora_part import LoraPart
from biject.nn.quantised import QuantisedLinear
from biject.nn.without_dropout import switch_off_dropout
from biject.plan.activations import Kept
from biject.plan.memory import Held
from biject.pretrained import PretrainedModel
from biject.quantize import replace_linears
from biject.runs.adapter import quantised
from biject.runs.preferences import draws_nothing
from biject.runs.prepare import Material, has_head, new_head_of
from biject.train.optim import freeze


class Outline:
    """What a recipe trains.

    Attributes:
        model: On the meta device, with the recipe's adapter, base and frozen parameters.
        config: The model's, without dropout where the run switches it off.
        quantization: Of its base, or None.
        ranks: Of the adapter, by module.
        trained: Modules whose matrix is trained.
        codes: Modules whose matrix is held in few bits.
    """

    def __init__(self, recipe: FinetuneRecipe, material: Material) -> None:
        self.model = _model(recipe, material)
        self.quantization: Quantization | None = None
        if recipe.method == "qlora":
            self.quantization = requested(**quantised(recipe))
            assert self.quantization is not None
            replace_linears(self.model, self.quantization)
        if recipe.method != "full":  # magnitudes of DoRA are few, and need values
            add_adapter(self.model, replace(recipe.adapter, use_dora=False), draw=False)
        self.config: ModelConfig = self.model.config
        self.draws_nothing = draws_nothing(recipe)
        if self.draws_nothing:
            switch_off_dropout(self.model)
            self.config = _without_dropout(self.config)
        modules = dict(self.model.named_modules())
        parts = {name: _part(module) for name, module in modules.items() if isinstance(module, LoraModule)}
        self.ranks = {name: part.lora_A.shape[0] for name, part in parts.items() if not part.table}
        self.codes = {name for name, one in modules.items() if isinstance(one, QuantisedLinear)}
        self.trained = {
            name.rpartition(".")[0]
            for name, parameter in self.model.named_parameters()
            if parameter.requires_grad
        }
        self.codes -= self.trained  # a head that is trained whole has its own values

    def parameters(self) -> list[Held]:
        """All of them."""
        return [
            Held(
                tuple(parameter.shape),
                trained=parameter.requires_grad,
                quantized=name.rpartition(".")[0] in self.codes and name.endswith(".weight"),
            )
            for name, parameter in self.model.named_parameters()
        ]

    def adapter_dropout(self, recipe: FinetuneRecipe) -> float:
        """The rate that its adapter draws by."""
        return 0.0 if recipe.method == "full" or self.draws_nothing else recipe.adapter.lora_dropout

    def kept(self, recipe: FinetuneRecipe, device: torch.device) -> Kept:
        """How its steps are computed."""
        return Kept(
            trained=self.trained.__contains__,
            rank=lambda name: self.ranks.get(name, 0),
            adapter_dropout=self.adapter_dropout(recipe) > 0,
            half=recipe.train.precision != "fp32",
            fused=device.type == "cuda",
            recomputed=recipe.train.gradient_checkpointing,
        )


def _part(module: nn.Module) -> LoraPart:
    assert isinstance(module, LoraModule)
    return module.parts()[0]


def _without_dropout(config: Any) -> Any:
    """Every rate 0; what is left out by `drop_path` is no dropout here, as in the run."""
    if isinstance(config, tuple):
        return tuple(_without_dropout(one) for one in config)
    if not is_dataclass(config) or isinstance(config, type):
        return config
    values = {one.name: getattr(config, one.name) for one in fields(config)}
    off = {name for name, value in values.items() if "dropout" in name and isinstance(value, float)}
    return replace(
        config, **{name: 0.0 if name in off else _without_dropout(values[name]) for name in values}
    )


def _model(recipe: FinetuneRecipe, material: Material) -> PretrainedModel:
    """With the checkpoint's own head, or a new one for the data's labels."""
    source, identity = material.source, material.identity
    assert isinstance(identity, Identity)  # `plan` refuses another back end
    if not has_head(recipe, identity):
        identity = identify(
            source.config,
            source.tensors,
            same=lambda one, other: True,  # twins are not read: they are equal, as nearly always
            head=recipe.head,
            new_head=new_head_of(material.samples) if recipe.head != "base" else None,
            where=str(source.folder),
        )
    model = PretrainedModel(identity, source, torch.float32)
    if recipe.train.freeze:
        freeze(model, recipe.train.freeze)
    return model
