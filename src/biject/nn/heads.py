"""Heads: what turns rows into logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biject.config.model import HeadConfig, ModelConfig
from biject.nn.activations import activation
from biject.nn.layout import Layout
from biject.nn.lm import CausalHead, LastHead
from biject.nn.modules import LayerNorm, Linear


class PooledHead(nn.Module):
    """One row of logits a text.

    Shape: (B, D) → (B, N), from the pooler's output or the first column's rows.
    """

    def __init__(self, config: ModelConfig, head: HeadConfig) -> None:
        super().__init__()
        self.dropout_in = nn.Dropout(head.dropout_in)
        self.dropout = nn.Dropout(head.dropout)
        self.act = activation(head.act)
        self.has_dense = head.dense_size > 0
        if self.has_dense:
            self.dense = Linear(config.hidden_size, head.dense_size)
        self.out = Linear(head.dense_size or config.hidden_size, head.num_labels)

    def forward(self, x_BD: Tensor) -> Tensor:
        if self.has_dense:
            x_BD = self.act(self.dense(self.dropout_in(x_BD)))
        out: Tensor = self.out(self.dropout(x_BD))
        return out


class RowHead(nn.Module):
    """Logits for every row: token classification, start and end of a span, replaced-token detection.

    Shape: (T, D) → (B, L, N), zeros where the layout has no row.
    """

    def __init__(self, config: ModelConfig, head: HeadConfig) -> None:
        super().__init__()
        self.dropout = nn.Dropout(head.dropout)
        self.act = activation(head.act)
        self.has_dense = head.dense_size > 0
        if self.has_dense:
            self.dense = Linear(config.hidden_size, head.dense_size)
        self.out = Linear(head.dense_size or config.hidden_size, head.num_labels, bias=head.out_bias)

    def forward(self, x_TD: Tensor, layout: Layout, *, on_grid: bool = False) -> Tensor:
        """`on_grid`: give the last linear all of HF's rows. With so few outputs it costs little, and the bits
        of a product with one output or two depend most on the number of rows.
        """
        if self.has_dense:
            x_TD = self.act(self.dense(x_TD))
        x_TD = self.dropout(x_TD)
        if not on_grid:
            return layout.grid(self.out(x_TD))
        x_BLD = layout.grid(x_TD)
        logits_GN = self.out(x_BLD.view(-1, x_BLD.shape[-1]))
        return layout.grid(layout.rows(logits_GN.view(*x_BLD.shape[:2], -1)))


class Decoder(nn.Module):
    """The product with a matrix over the vocabulary: its own, or the token table where outputs are tied.

    Shape: (T, D) → (T, V).
    """

    def __init__(self, size: int, vocab_size: int, *, tied: bool, bias_added: bool) -> None:
        super().__init__()
        self.bias_added = bias_added
        self.weight: nn.Parameter | None
        self.register_parameter(
            "weight", None if tied else nn.Parameter(torch.empty(vocab_size, size, device="meta"))
        )
        self.bias = nn.Parameter(torch.empty(vocab_size, device="meta"))

    def forward(self, x_TD: Tensor, table_VD: Tensor) -> Tensor:
        weight_VD = table_VD if self.weight is None else self.weight
        if self.bias_added:
            return torch.matmul(x_TD, weight_VD.t()) + self.bias
        return F.linear(x_TD, weight_VD, self.bias)


class VocabHead(nn.Module):
    """Masked LM: dense, activation, norm, decoder.

    Shape: (T, D), token table (V, D) → (T, V).
    """

    def __init__(self, config: ModelConfig, head: HeadConfig) -> None:
        super().__init__()
        self.dense = Linear(config.hidden_size, head.dense_size)
        self.act = activation(head.act)
        self.norm = LayerNorm(head.dense_size, eps=config.norm_eps)
        self.decoder = Decoder(
            head.dense_size, config.vocab_size, tied=config.tied_output, bias_added=head.bias_added
        )

    def forward(self, x_TD: Tensor, table_VD: Tensor) -> Tensor:
        out: Tensor = self.decoder(self.features(x_TD), table_VD)
        return out

    def features(self, x_TD: Tensor) -> Tensor:
        """The decoder's inputs: (T, D) → (T, D of the embedding)."""
        out: Tensor = self.norm(self.act(self.dense(x_TD)))
        return out


def make_head(config: ModelConfig) -> nn.Module | None:
    """The module for `config.head`."""
    if config.head is None:
        return None
    kinds: dict[str, type[nn.Module]] = {
        "pooled": PooledHead,
        "tokens": RowHead,
        "spans": RowHead,
        "detection": RowHead,
        "vocab": VocabHead,
        "causal": CausalHead,
        "last": LastHead,
    }
    return kinds[config.head.kind](config, config.head)
