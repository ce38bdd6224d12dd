"""`BatchPlan`: all that layers and heads need to know of a batch, made once before the first layer.

Plain tensors and numbers only, so that a layer is a function of rows and plan: it compiles once, is sharded
and recomputed by torch's own means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from biject.config.layers import AttentionSpec, MaskKind
from biject.config.model import ModelConfig
from biject.config.rope import RopeConfig
from biject.nn.batch import Batch, HeadRequest
from biject.nn.exact import min_rows
from biject.nn.kernels import Kernel, Operation
from biject.nn.layout import Layout
from biject.nn.relative import Rows
from biject.nn.rowwise import RowOp


class AttentionModule(Protocol):
    """What the planner asks of a layer's `attn`: ours, or one that another package brings."""

    @property
    def spec(self) -> AttentionSpec:
        """Which masks it needs, and what its kernel computes."""

    @property
    def rope(self) -> RopeConfig | None:
        """Which rotary positions it needs."""

    @property
    def operation(self) -> Operation:
        """The row of the kernels' table whose probe speaks for it."""


class KeyValues(Protocol):
    """Earlier keys and values, which generation passes in."""

    def update(self, attention: AttentionModule, k_BGLE: Tensor, v_BGLE: Tensor) -> tuple[Tensor, Tensor]:
        """Keep those of this call; give all that this layer looks at, (B, G, S, E) each."""


class PlannedModel(Protocol):
    """What the planner asks of a model: `nn/transformer.py` has it."""

    training: bool
    gradient_checkpointing: bool

    @property
    def config(self) -> ModelConfig:
        """Sizes and axes of variation."""

    @property
    def head(self) -> Any:
        """A `Head` of `nn/heads`."""

    @property
    def layers(self) -> Any:
        """The distinct layers."""

    @property
    def relative(self) -> Any:
        """The module that gives the table of relative positions, or None."""

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def attentions(self) -> tuple[AttentionModule, ...]: ...

    @property
    def attention_specs(self) -> tuple[AttentionSpec, ...]: ...

    @property
    def row_modules(self) -> tuple[nn.Module, ...]: ...

    def rotary(self, config: RopeConfig) -> Callable[[Tensor, torch.dtype], tuple[Tensor, Tensor]]: ...

    def modules(self) -> Iterator[nn.Module]: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchPlan:
    """How one batch is computed by the layers, or (`last`) by the last one and the head."""

    batch: Batch
    request: HeadRequest
    layout: Layout
    kernels: Mapping[Operation, Kernel]
    masks: Mapping[MaskKind, tuple[Tensor | None, ...]]
    """Of each bucket of the layout."""
    rope: Mapping[RopeConfig, tuple[Tensor, Tensor]]
    """Cosines and sines of every row's position, (T, E) each."""
    distances: Tensor | None = None
    """(1, L, L): see `relative_distances`."""
    relative_table: Tensor | None = None
    """(P, D), normalised."""
    near_positions: Rows | None = None
    """The table's rows that this batch looks at, where others may be left out."""
    cache: KeyValues | None = None
    own_keys: bool = False
    """The cache holds nothing before this call, so that queries look at the call's own keys."""
    joined: bool = False
    """Rows of the grid hold several texts, which masks keep apart."""
    contiguous_keys: bool = False
    """Keys and values of each head lie side by side, as a cache holds them: HF's decoders read them from one
    in training, too, and the bits of gradients depend on it on some machines."""
    total: int
    """Rows of HF's grid."""
    exact: bool = False
    """Rows were left out, and bits are kept all the same."""
    keep_bits: bool = False
    """Bits are to be kept, whatever the layout."""
    own_draws: bool = False
    """Random numbers are drawn as is cheapest: nobody asks for those of HF's run."""
    head_ops: frozenset[RowOp] | None = None
    """What the head's rows go through; None if that is not known."""
    dtype: torch.dtype = torch.float32
    """What is computed in."""
    narrowed: bool = False
    """Only the rows that the head reads are computed."""
    grid_index_K: Tensor | None = None  # noqa: N815
    """Where in the grid the rows that the head reads stand; None for all."""
    row_index_K: Tensor | None = None  # noqa: N815
    """The same among the rows of the layout before narrowing."""
    final: BatchPlan | None = None

    @cached_property
    def prepared(self) -> dict[Any, Any]:
        """What kernels work out for the first layer and look up in the others."""
        return {}

    @property
    def last(self) -> BatchPlan:
        """The plan of the last layer and the head."""
        return self if self.final is None else self.final

    def min_rows(self, count: int) -> int | None:
        """How many rows the head has to compute so that `count` of them are right; None where only the whole
        grid, each row in its place, will do.
        """
        if not self.keep_bits:
            return max(count, 1)
        return min_rows(self.head_ops, max(count, 1), self.total, self.dtype)

    def head_rows(self, x_TD: Tensor) -> Tensor:
        """The rows that the head reads, `grid_index_K`, and copies of others to have enough of them."""
        if self.narrowed:
            return x_TD
        assert self.row_index_K is not None
        needed = self.min_rows(self.row_index_K.shape[0])
        assert needed is not None, "only the whole grid has HF's bits"
        fill = max(0, needed - self.row_index_K.shape[0])
        return x_TD.index_select(0, torch.cat([self.row_index_K, self.row_index_K.new_zeros(fill)]))
