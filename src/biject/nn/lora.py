"""LoRA: a linear or table that adds low-rank products to what it computes, its own parameters in their place.

The module keeps its name, its parameters and their names; only its class changes, to one that adds what its
active adapters compute. Whatever reads `weight`, ties it or shards it sees no difference.
Source: PEFT 0.21, tuners/lora/layer.py (Linear, Embedding): the order of operations is theirs.
"""

from __future__ import annotations

from functools import cache
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from biject.nn.dora import dora_embedding, dora_linear
from biject.nn.lora_part import LoraPart
from biject.nn.modules import TransposedLinear, scaled_rows


class LoraModule(nn.Module):
    """Mix-in over the class of a linear or a table; `lora` holds a `LoraPart` for each adapter's name."""

    lora: nn.ModuleDict
    active: tuple[str, ...]

    def parts(self) -> list[LoraPart]:
        """Those of the active adapters that have one here."""
        return [cast(LoraPart, self.lora[name]) for name in self.active if name in self.lora]


class _Linear(LoraModule):
    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = super().forward(x)
        dtype = result.dtype
        for part in self.parts():
            x = x.to(part.lora_A.dtype)
            if part.lora_magnitude_vector is None:
                result = result + part.product(part.dropout(x)) * part.scaling
            else:
                result = dora_linear(part, x, result, base=self)
        return result.to(dtype)


class _Table(LoraModule):
    def forward(self, ids: Tensor) -> Tensor:
        result: Tensor = super().forward(ids)
        dtype = result.dtype
        padding = cast("int | None", self.padding_idx)
        for part in self.parts():
            rows = F.embedding(ids, part.lora_A.t(), padding_idx=padding)
            if part.lora_magnitude_vector is None:
                result = result + scaled_rows(self, (rows @ part.lora_B.t()) * part.scaling)
            else:
                result = dora_embedding(part, rows, result, base=self)
        return result.to(dtype)


def adapt(module: nn.Module) -> LoraModule:
    """Have a module add what its adapters compute; it stays the same object with the same parameters."""
    if not isinstance(module, LoraModule):
        module.__class__ = lora_class(type(module))  # type: ignore[arg-type]  # classes can be hashed
        module.add_module("lora", nn.ModuleDict())
        cast(LoraModule, module).active = ()
    return cast(LoraModule, module)


def restore(module: LoraModule) -> None:
    """Undo `adapt`."""
    del module.lora, module.active
    module.__class__ = type(module).__bases__[1]


@cache
def lora_class(base: type[nn.Module]) -> type[LoraModule]:
    """The class of adapted modules of a class."""
    kind = _Table if issubclass(base, nn.Embedding) else _Linear
    own: dict[str, Any] = {"__module__": __name__, "__doc__": f"{base.__name__} with adapters."}
    if "row_ops" in base.__dict__:  # its parts speak for themselves
        own["row_ops"] = base.__dict__["row_ops"]
    return type(f"Lora{base.__name__}", (kind, base), own)


def sizes(module: nn.Module) -> tuple[int, int]:
    """Inputs and outputs of a linear; rows and width of a table."""
    if isinstance(module, TransposedLinear):
        return module.weight.shape[0], module.weight.shape[1]
    if isinstance(module, nn.Embedding):
        return module.num_embeddings, module.embedding_dim
    return cast(int, module.in_features), cast(int, module.out_features)


def can_adapt(module: nn.Module) -> bool:
    """Whether it is a linear or a table."""
    return isinstance(module, nn.Linear | TransposedLinear | nn.Embedding) or is_linear(module)


def is_linear(module: nn.Module) -> bool:
    """Whether it is a linear: ours, torch's, or another that says its sizes (a quantised one)."""
    return isinstance(module, nn.Linear | TransposedLinear) or (
        hasattr(module, "in_features") and hasattr(module, "out_features")
    )
