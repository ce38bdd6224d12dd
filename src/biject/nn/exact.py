"""Which kernels the rows of a model go through, and how many rows they need for HF's bits.

Consulted once a batch: a packed batch is exact where every linear gives its rows the bits that they have
among all of the grid's rows, and norms and activations do not mind their neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from biject.config.model import ModelConfig
from biject.nn.activations import activation
from biject.nn.kernels import Kernel
from biject.nn.probe import attention_holds, rowwise_holds, same_bits_from


@dataclass(frozen=True, kw_only=True)
class RowKernels:
    """What a model computes row by row."""

    linears: frozenset[tuple[int, int]]
    """(inputs, outputs)"""
    activations: frozenset[tuple[str, int]]
    """(name, width)"""
    norms: frozenset[int]
    """Widths."""

    def rows_for(self, count: int, total: int, dtype: torch.dtype) -> int | None:
        """How many rows to compute, `count` or more, so that each has the bits it has among `total`.

        None where only all of them do.
        """
        if count >= total or not self._rowwise(dtype):
            return None
        for inputs, outputs in sorted(self.linears):
            least = same_bits_from(inputs, outputs, total, dtype)
            if least is None:
                return None
            count = max(count, least)
        return count if count < total else None

    def _rowwise(self, dtype: torch.dtype) -> bool:
        return all(
            rowwise_holds(name, activation(name), width, dtype) for name, width in sorted(self.activations)
        ) and all(
            rowwise_holds("layer_norm", lambda x: torch.layer_norm(x, (x.shape[-1],)), width, dtype)
            for width in sorted(self.norms)
        )


def trunk_kernels(config: ModelConfig) -> RowKernels:
    """Those of the layers, and of the embeddings' projection."""
    hidden, inner, sizes = config.hidden_size, config.intermediate_size, config.embedding
    linears = {(hidden, hidden), (hidden, inner), (inner, hidden)}
    if sizes.projection != "none":
        linears.add((sizes.size, hidden))
    activations = {(config.hidden_act, inner)}
    if config.conv is not None:
        activations.add((config.conv.act, hidden))
    return RowKernels(
        linears=frozenset(linears),
        activations=frozenset(activations),
        norms=frozenset({hidden, sizes.size}),
    )


def head_kernels(config: ModelConfig) -> RowKernels:
    """Those of a head that works row by row.

    Not a pooled head's and not the last linear of one with few outputs: they are given HF's own rows.
    """
    head = config.head
    linears: set[tuple[int, int]] = set()
    activations: set[tuple[str, int]] = set()
    norms: set[int] = set()
    if head is not None and head.kind != "pooled" and head.dense_size:
        linears.add((config.hidden_size, head.dense_size))
        activations.add((head.act, head.dense_size))
        if head.kind == "vocab":
            linears.add((head.dense_size, config.vocab_size))
            norms.add(head.dense_size)
    return RowKernels(linears=frozenset(linears), activations=frozenset(activations), norms=frozenset(norms))


def attention_is_exact(kernel: Kernel, config: ModelConfig, dtype: torch.dtype) -> bool:
    """Whether groups attend with the bits of the whole grid."""
    return attention_holds(kernel.operation, kernel.keys, config.head_dim, dtype)
