"""Decide once a batch: the layout, the attention kernel, and how many rows each step has to compute."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from biject.config.model import ModelConfig
from biject.events import notice
from biject.nn.exact import RowKernels, attention_is_exact, head_kernels, trunk_kernels
from biject.nn.kernels import Attend, Numerics, Operation, grouped, kernel, whole_grid
from biject.nn.layout import Layout, Packed, Padded
from biject.nn.packing import first_only, pack, queries_to_16, select, spans

LayoutName = Literal["packed", "padded"]

WORTH_IT = 0.95
"""A batch that would keep more of its grid than this is computed as it is."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Choice:
    """How one batch is computed."""

    layout: Layout
    attend: Attend = grouped
    total: int
    """Rows of HF's grid."""
    trunk: RowKernels | None = None
    """Where bits are to be kept: what the layers' rows go through."""
    head: RowKernels | None = None
    """The same for the head."""
    dtype: torch.dtype = torch.float32
    few_queries: bool = True
    """Whether attention may leave out queries."""

    def first_rows(self) -> Layout:
        """The layout of a last layer of which only first columns are read."""
        if not isinstance(self.layout, Packed) or not self.few_queries:
            return self.layout
        count = self._rows(self.layout.batch, (self.trunk,))
        return self.layout if count is None else first_only(self.layout, num_rows=count)

    def rows_at(self, places_K: Tensor) -> Layout:
        """The layout of a last layer of which only the rows at these places of the grid are read."""
        if not isinstance(self.layout, Packed):
            return self.layout
        count = self._rows(places_K.shape[0], (self.trunk, self.head))
        return self.layout if count is None else select(self.layout, self._where(places_K), num_rows=count)

    def head_rows(self, x_TD: Tensor, last: Layout, places_K: Tensor) -> Tensor:
        """The head's rows out of the last layer's: those at `places_K` of the grid, and ones to fill up."""
        if last is not self.layout:
            return x_TD
        least = self.least(places_K.shape[0])
        assert least is not None, "only the whole grid has HF's bits"
        fill = max(0, least - places_K.shape[0])
        index_K = self._where(places_K)
        return x_TD.index_select(0, torch.cat([index_K, index_K.new_zeros(fill)]))

    def least(self, count: int) -> int | None:
        """How many rows the head has to compute so that `count` of them are right; None where only the whole
        grid, each row in its place, will do.
        """
        if self.head is None:
            return max(count, 1)
        return self.head.rows_for(max(count, 1), self.total, self.dtype)

    def _where(self, places_K: Tensor) -> Tensor:
        """Which of the layout's rows stand at these places of the grid."""
        if not isinstance(self.layout, Packed):
            return places_K
        where_G = torch.zeros(self.total, dtype=torch.long, device=places_K.device)
        tokens = self.layout.num_tokens
        where_G[self.layout.places_T[:tokens]] = torch.arange(tokens, device=places_K.device)
        return where_G.index_select(0, places_K)

    def _rows(self, count: int, kernels: tuple[RowKernels | None, ...]) -> int | None:
        """How many rows to compute; None where that saves nothing."""
        found: int | None = max(count, 1)
        for each in kernels:
            if each is not None and found is not None:
                found = each.rows_for(found, self.total, self.dtype)
        return None if found is None or found >= self.layout.num_rows else found


class Chooser:
    """Chooses for the calls of one model.

    Args:
        config: the model's.
        layout: `packed`, or `padded` for all of HF's rows.
        numerics: `exact`, `fast`, or None: exact on the CPU, fast elsewhere.
    """

    def __init__(
        self, config: ModelConfig, layout: LayoutName = "packed", numerics: Numerics | None = None
    ) -> None:
        self.config, self.layout, self.numerics = config, layout, numerics
        self._told = False

    def on(self, config: ModelConfig) -> Chooser:
        """The same choices for a changed model."""
        return Chooser(config, self.layout, self.numerics)

    def choose(
        self, grid: Padded, *, weight: Tensor, training: bool, whole: bool = False, head_rows: bool = True
    ) -> Choice:
        """For one batch.

        Args:
            grid: HF's rows.
            weight: a parameter, for its device and dtype.
            training: whether dropout is on.
            whole: all of the grid is wanted.
            head_rows: whether the head sees all rows (not only some that are chosen later).
        """
        device, total, mask_BL = weight.device, grid.num_rows, grid.mask_BL
        autocast = torch.is_autocast_enabled(device.type)
        dtype = torch.get_autocast_dtype(device.type) if autocast else weight.dtype
        numerics = self.numerics or ("exact" if device.type == "cpu" else "fast")
        bits = numerics == "exact" and device.type == "cpu" and not (training and self._has_dropout)
        padded = Choice(layout=grid, total=total, head=self._head if bits else None, dtype=dtype)
        columns = self.config.feed_forward_chunk_size
        causal = self.config.causal
        whole = whole or bool(columns) or (causal is not None and causal.upcast)
        if self.layout == "padded" or mask_BL is None or whole:
            return padded
        kept = spans(mask_BL)
        count = sum(kept)
        if count > WORTH_IT * total:
            return padded
        found = kernel(self._operation, device, "fast" if device.type == "cpu" and not bits else numerics)
        keys, queries, few = found.keys, queries_to_16, True
        if bits:
            rows = self._exact_rows(count, total, dtype, head_rows=head_rows)
            if rows is None or rows > WORTH_IT * total:
                self._tell(count, total)
                return padded
            count, few = rows, attention_is_exact(found, self.config, dtype)
            if not few:
                keys = queries = whole_grid
        return Choice(
            layout=pack(mask_BL, kept, keys, queries=queries, num_rows=count),
            attend=found.attend or grouped,
            total=total,
            trunk=self._trunk if bits else None,
            head=self._head if bits else None,
            dtype=dtype,
            few_queries=few,
        )

    def _exact_rows(self, count: int, total: int, dtype: torch.dtype, *, head_rows: bool) -> int | None:
        rows = self._trunk.rows_for(count, total, dtype)
        return self._head.rows_for(rows, total, dtype) if rows is not None and head_rows else rows

    def _tell(self, count: int, total: int) -> None:
        """Once a model, when bits are the reason."""
        if self._told or total <= 64:
            return
        self._told = True
        notice(
            "packing-withdrawn",
            f"{count} of {total} rows hold tokens, but this machine's kernels give them other bits when "
            "fewer are computed, so that all are, as in HF. numerics='fast' leaves padding out all the same.",
        )

    @cached_property
    def _operation(self) -> Operation:
        if self.config.causal:
            return "causal attention"
        return "written-out attention" if self.config.relative else "attention"

    @cached_property
    def _trunk(self) -> RowKernels:
        return trunk_kernels(self.config)

    @cached_property
    def _head(self) -> RowKernels:
        return head_kernels(self.config)

    @cached_property
    def _has_dropout(self) -> bool:
        """Whether training draws random numbers, so that there are no bits to keep."""
        config, head, relative = self.config, self.config.head, self.config.relative
        rates = [
            config.embedding_dropout,
            config.attention_dropout,
            config.attention_out_dropout,
            config.mlp_out_dropout,
            relative.dropout if relative else 0.0,
            *((head.dropout, head.dropout_in) if head else ()),
        ]
        return any(rate > 0 for rate in rates)
