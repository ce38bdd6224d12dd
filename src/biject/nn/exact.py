"""Which kernels the rows of a model go through, and how many rows they need for HF's bits.

Consulted once a batch: a packed batch is exact where every linear gives its rows the bits that they have
among all of the grid's rows, and norms and activations do not mind their neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from biject.config.model import ModelConfig, NormKind
from biject.nn.activations import activation
from biject.nn.kernels import Kernel
from biject.nn.probe import Form, attention_holds, rowwise_holds, same_bits_from


@dataclass(frozen=True, kw_only=True)
class RowKernels:
    """What a model computes row by row."""

    linears: frozenset[tuple[int, int, Form]]
    """(inputs, outputs, form)"""
    activations: frozenset[tuple[str, int]]
    """(name, width)"""
    norms: frozenset[tuple[NormKind, int]]
    """(kind, width)"""

    def rows_for(self, count: int, total: int, dtype: torch.dtype) -> int | None:
        """How many rows to compute, `count` or more, so that each has the bits it has among `total`.

        None where only all of them do.
        """
        if count >= total or not self._rowwise(dtype):
            return None
        for inputs, outputs, form in sorted(self.linears):
            least = same_bits_from(inputs, outputs, total, dtype, form)
            if least is None:
                return None
            count = max(count, least)
        return count if count < total else None

    def _rowwise(self, dtype: torch.dtype) -> bool:
        return all(
            rowwise_holds(name, activation(name), width, dtype) for name, width in sorted(self.activations)
        ) and all(
            rowwise_holds(f"{kind} norm", _NORMS[kind], width, dtype) for kind, width in sorted(self.norms)
        )


def _root_mean_square(x: torch.Tensor) -> torch.Tensor:
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype)


_NORMS = {"layer": lambda x: torch.layer_norm(x, (x.shape[-1],)), "rms": _root_mean_square}


def trunk_kernels(config: ModelConfig) -> RowKernels:
    """Those of the layers, and of the embeddings' projection."""
    hidden, inner, sizes = config.hidden_size, config.intermediate_size, config.embedding
    stored: Form = "in-out" if config.weights_in_out else "bias" if config.mlp_bias else "plain"
    linears: set[tuple[int, int, Form]] = {(hidden, inner, stored), (inner, hidden, stored)}
    linears |= _attention_linears(config)
    if sizes.projection != "none":
        linears.add((sizes.size, hidden, "bias" if sizes.projection_bias else "plain"))
    activations = {(config.hidden_act, inner)}
    if config.conv is not None:
        activations.add((config.conv.act, hidden))
    norms: set[tuple[NormKind, int]] = {(config.norm, hidden), (config.norm, sizes.size)}
    if config.causal is not None and config.causal.qk_norm:
        norms.add(("rms", config.causal.head_dim))
    return RowKernels(linears=frozenset(linears), activations=frozenset(activations), norms=frozenset(norms))


def _attention_linears(config: ModelConfig) -> set[tuple[int, int, Form]]:
    hidden, causal = config.hidden_size, config.causal
    if causal is None:
        return {(hidden, hidden, "bias")}
    wide, narrow = config.num_attention_heads * causal.head_dim, causal.num_key_value_heads * causal.head_dim
    if causal.fused:
        form: Form = "in-out" if config.weights_in_out else "bias"
        return {(hidden, wide + 2 * narrow, form), (wide, hidden, form)}
    into: Form = "bias" if causal.qkv_bias else "plain"
    return {
        (hidden, wide, into),
        (hidden, narrow, into),
        (wide, hidden, "bias" if causal.out_bias else "plain"),
    }


def head_kernels(config: ModelConfig) -> RowKernels:
    """Those of a head that works row by row.

    Not a pooled head's and not the last linear of one with few outputs: they are given HF's own rows.
    """
    head = config.head
    linears: set[tuple[int, int, Form]] = set()
    activations: set[tuple[str, int]] = set()
    norms: set[tuple[NormKind, int]] = set()
    if head is not None and head.kind == "causal":
        linears.add((config.hidden_size, config.vocab_size, "plain"))
    elif head is not None and head.kind != "pooled" and head.dense_size:
        linears.add((config.hidden_size, head.dense_size, "bias"))
        activations.add((head.act, head.dense_size))
        if head.kind == "vocab":
            linears.add((head.dense_size, config.vocab_size, "plain" if head.bias_added else "bias"))
            norms.add(("layer", head.dense_size))
    return RowKernels(linears=frozenset(linears), activations=frozenset(activations), norms=frozenset(norms))


def attention_is_exact(kernel: Kernel, config: ModelConfig, dtype: torch.dtype) -> bool:
    """Whether groups attend with the bits of the whole grid."""
    head_dim = config.causal.head_dim if config.causal else config.head_dim
    return attention_holds(kernel.operation, kernel.keys, head_dim, dtype)
