"""What one adapter has on one linear or table: two matrices of low rank, and of DoRA a magnitude."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

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
