"""Heads of decoders: the next token of every row, and a text's class from its last token."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biject.config.model import HeadConfig, ModelConfig
from biject.errors import InputError
from biject.events import notice
from biject.nn.layout import Layout
from biject.nn.modules import Linear


class OutputMatrix(nn.Module):
    """The product with a matrix over the vocabulary: its own, or the token table where outputs are tied.

    Shape: (T, D) → (T, V).
    """

    def __init__(self, size: int, vocab_size: int, *, tied: bool) -> None:
        super().__init__()
        self.weight: nn.Parameter | None
        own = None if tied else nn.Parameter(torch.empty(vocab_size, size, device="meta"))
        self.register_parameter("weight", own)

    def forward(self, x_TD: Tensor, table_VD: Tensor) -> Tensor:
        return F.linear(x_TD, table_VD if self.weight is None else self.weight)


class CausalHead(nn.Module):
    """Causal LM: the product with the output matrix, which may be the token table.

    Shape: (T, D), token table (V, D) → (T, V).
    """

    def __init__(self, config: ModelConfig, head: HeadConfig) -> None:
        super().__init__()
        self.decoder = OutputMatrix(config.hidden_size, config.vocab_size, tied=config.tied_output)

    def forward(self, x_TD: Tensor, table_VD: Tensor) -> Tensor:
        out: Tensor = self.decoder(x_TD, table_VD)
        return out

    def features(self, x_TD: Tensor) -> Tensor:
        """The decoder's inputs: the rows themselves."""
        return x_TD


class LastHead(nn.Module):
    """Logits of every row of the grid, of which each text's last token's are kept.

    Shape: (T, D), columns (B,) → (B, N).
    Source: transformers 5.23, modeling_layers.py (GenericForSequenceClassification).
    """

    def __init__(self, config: ModelConfig, head: HeadConfig) -> None:
        super().__init__()
        self.out = Linear(config.hidden_size, head.num_labels, bias=False)

    def forward(self, x_TD: Tensor, layout: Layout, columns_B: Tensor | int) -> Tensor:
        x_BLD = layout.grid(x_TD)  # all rows: the bits of so few outputs depend on their number
        logits_BLN = self.out(x_BLD.view(-1, x_BLD.shape[-1])).view(*x_BLD.shape[:2], -1)
        picked: Tensor = logits_BLN[torch.arange(layout.batch, device=logits_BLN.device), columns_B]
        return picked


def last_columns(input_ids: Tensor | None, batch: int, pad_token_id: int | None) -> Tensor | int:
    """The column of each text's last token that is no padding token, (B,); the attention mask plays no part.

    -1, the last column, where padding cannot be told: from embeddings, or for one text without a
    `pad_token_id`.

    Raises:
        InputError: several texts, and no padding token is defined.
    """
    if pad_token_id is None:
        if batch != 1:
            raise InputError(
                f"{batch} texts cannot be classified in one call: config.json defines no `pad_token_id`, so "
                "a text's last token cannot be told from padding. Define it, or pass one text at a time."
            )
        return -1
    if input_ids is None:
        notice(
            "padding-unseen",
            "Padding cannot be seen in `inputs_embeds`: each text's last column is classified.",
        )
        return -1
    real_BL = (input_ids != pad_token_id).to(torch.int32)
    columns = torch.arange(input_ids.shape[-1], device=input_ids.device, dtype=torch.int32)
    return (columns * real_BL).argmax(-1)
