"""Token, position and segment tables: from ids to rows, before the norm."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from biject.config.model import ModelConfig
from biject.errors import InputError
from biject.nn.modules import Embedding


class Embeddings(nn.Module):
    """The sum of the tables, in the order that the config gives.

    Shape: ids (B, L) → (B, L, D of the embedding).
    Source: transformers 5.23, e.g. modeling_bert.py (BertEmbeddings), modeling_roberta.py
    (RobertaEmbeddings).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        sizes, size = config.embedding, config.embedding.size
        self.order, self.rule = sizes.order, sizes.position_rule
        self.pad_token_id = config.pad_token_id
        self.tokens = Embedding(config.vocab_size, size, padding_idx=config.pad_token_id)
        if "positions" in sizes.order:
            padding = config.pad_token_id if sizes.position_rule == "after-pad" else None
            self.positions = Embedding(sizes.max_position_embeddings, size, padding_idx=padding)
        if "segments" in sizes.order:
            self.segments = Embedding(sizes.type_vocab_size, size)

    def forward(
        self,
        input_ids: Tensor | None,
        inputs_embeds: Tensor | None,
        position_ids: Tensor | None,
        token_type_ids: Tensor | None,
    ) -> Tensor:
        """Exactly one of `input_ids` (B, L) and `inputs_embeds` (B, L, D) is given; ids are int64."""
        if inputs_embeds is not None:
            x_BLD = inputs_embeds
        else:
            assert input_ids is not None
            x_BLD = self.tokens(_in_range("input_ids", input_ids, self.tokens.num_embeddings))
        for table in self.order:
            if table == "positions":
                ids = self.position_ids(input_ids, x_BLD) if position_ids is None else position_ids
                x_BLD = x_BLD + self.positions(_in_range("position_ids", ids, self.positions.num_embeddings))
            else:
                ids = (
                    torch.zeros_like(x_BLD[..., 0], dtype=torch.long)
                    if token_type_ids is None
                    else token_type_ids
                )
                x_BLD = x_BLD + self.segments(_in_range("token_type_ids", ids, self.segments.num_embeddings))
        return x_BLD

    def position_ids(self, input_ids: Tensor | None, x_BLD: Tensor) -> Tensor:
        """Positions where the caller gives none: (1, L) counted along the columns, or (B, L) by the
        after-pad rule.
        """
        length = x_BLD.shape[1]
        if self.rule == "arange":
            return torch.arange(length, device=x_BLD.device)[None]
        pad = self.pad_token_id
        assert pad is not None
        if input_ids is None:
            return torch.arange(pad + 1, pad + 1 + length, device=x_BLD.device)[None].expand(x_BLD.shape[:2])
        real_BL = input_ids.ne(pad).int()
        return (torch.cumsum(real_BL, dim=1).type_as(real_BL) * real_BL).long() + pad


def _in_range(name: str, ids: Tensor, size: int) -> Tensor:
    """`ids`, checked against the table's size where looking costs little (on the CPU)."""
    if ids.device.type == "cpu" and ids.numel() and not torch.compiler.is_compiling():
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= size:
            raise InputError(f"`{name}` must lie in 0…{size - 1}, the table's rows; found {low}…{high}.")
    return ids
