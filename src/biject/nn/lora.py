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
from biject.nn.modules import TransposedLinear
from biject.nn.rowwise import RowOp


class LoraPart(nn.Module):
    """What one adapter has on one module.

    Args:
        lora_A: (r, in); of a table (r, V).
        lora_B: (out, r); of a table (D, r).
        scaling: what is added is multiplied by it.
        dropout: of a linear's inputs.
        magnitude: (out,) of DoRA.
        table: the module is a table.
    """

    def __init__(
        self,
        lora_A: Tensor,
        lora_B: Tensor,
        *,
        scaling: float,
        dropout: float = 0.0,
        magnitude: Tensor | None = None,
        table: bool = False,
    ) -> None:
        super().__init__()
        self.lora_A, self.lora_B = nn.Parameter(lora_A), nn.Parameter(lora_B)
        self.lora_magnitude_vector = None if magnitude is None else nn.Parameter(magnitude)
        self.dropout = nn.Dropout(dropout) if dropout > 0 else nn.Identity()
        self.scaling, self.table = scaling, table

    def row_ops(self) -> tuple[RowOp, ...]:
        """The two products; of a table only the second."""
        rank = self.lora_A.shape[0]
        wide = RowOp("linear", "plain", rank, self.lora_B.shape[0])
        return (wide,) if self.table else (RowOp("linear", "plain", self.lora_A.shape[1], rank), wide)

    def product(self, x: Tensor) -> Tensor:
        """(…, in) → (…, out), not scaled."""
        return F.linear(F.linear(x, self.lora_A), self.lora_B)

    def delta(self) -> Tensor:
        """(out, in): what the adapter adds to the matrix, in its own dtype."""
        half = self.lora_B.dtype.itemsize == 2 and self.lora_B.device.type == "cpu"
        a, b = (self.lora_A.float(), self.lora_B.float()) if half else (self.lora_A, self.lora_B)
        return ((b @ a) * self.scaling).to(self.lora_B.dtype)


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
                result = result + (rows @ part.lora_B.t()) * part.scaling
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
