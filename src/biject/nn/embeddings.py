"""Token, position and segment tables: from ids to rows, before the norm."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from biject.config.model import ModelConfig
from biject.errors import InputError
from biject.nn.batch import Batch
from biject.nn.layout import Layout, Packed
from biject.nn.modules import Embedding, ScaledEmbedding


class Embeddings(nn.Module):
    """The sum of the tables, in the order that the config gives.

    Shape: ids (B, L) → (T, D of the embedding).
    Source: transformers 5.23, e.g. modeling_bert.py (BertEmbeddings), modeling_roberta.py
    (RobertaEmbeddings).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        sizes, size = config.embedding, config.embedding.size
        self.order, self.rule = sizes.order, sizes.position_rule
        self.pad_token_id = config.pad_token_id
        self.segments_from_tokens = sizes.segments_from_tokens
        padding_row = config.pad_token_id if sizes.padding_row else None
        self.tokens = Embedding(config.vocab_size, size, padding_idx=padding_row)
        if sizes.scale is not None:
            self.tokens = ScaledEmbedding(
                config.vocab_size, size, padding_idx=padding_row, embed_scale=sizes.scale
            )
        if "positions" in sizes.order:
            padding = config.pad_token_id if sizes.position_rule == "after-pad" else None
            self.positions = Embedding(sizes.max_position_embeddings, size, padding_idx=padding)
        if "segments" in sizes.order:
            self.segments = Embedding(sizes.type_vocab_size, size)

    @property
    def main_weight(self) -> Tensor:
        """The one that tells the model's device and dtype."""
        return self.tokens.weight

    def forward(self, layout: Layout, batch: Batch) -> Tensor:
        """Ids are int64."""
        input_ids, inputs_embeds = batch.input_ids, batch.inputs_embeds
        position_ids, token_type_ids = batch.position_ids, batch.token_type_ids
        if inputs_embeds is not None:
            x = layout.rows(inputs_embeds) if isinstance(layout, Packed) else inputs_embeds
        else:
            assert input_ids is not None
            x = self.tokens(layout.pick(_in_range("input_ids", input_ids, self.tokens.num_embeddings)))
        for table in self.order:
            if table == "positions":
                ids = self.position_ids(layout, input_ids) if position_ids is None else position_ids
                ids = _in_range("position_ids", ids, self.positions.num_embeddings)
                x = x + self.positions(layout.pick(ids))
            elif token_type_ids is None:
                x = x + self.segments(torch.zeros_like(x[..., 0], dtype=torch.long))
            else:
                ids = _in_range("token_type_ids", token_type_ids, self.segments.num_embeddings)
                x = x + self.segments(layout.pick(ids))
        if self.segments_from_tokens and token_type_ids is not None:
            ids = _in_range("token_type_ids", token_type_ids, self.tokens.num_embeddings)
            x = x + self.tokens(layout.pick(ids))
        assert isinstance(x, Tensor)
        return x if x.dim() == 2 else layout.rows(x)

    def with_pictures(self, batch: Batch, pixel_values: Tensor | None, *, interpolate: bool) -> Batch:
        """The batch as it is: here are texts.

        Raises:
            InputError: pictures are given.
        """
        if pixel_values is not None or interpolate:
            raise InputError("`pixel_values` are for models of pictures; this one reads `input_ids`.")
        return batch

    def position_ids(self, layout: Layout, input_ids: Tensor | None) -> Tensor:
        """Positions on HF's grid where the caller gives none: (1, L) counted along the columns, or (B, L) by
        the after-pad rule.
        """
        device = self.tokens.weight.device
        if self.rule == "arange":
            return torch.arange(layout.length, device=device)[None]
        pad = self.pad_token_id
        assert pad is not None
        if input_ids is None:
            columns_1L = torch.arange(pad + 1, pad + 1 + layout.length, device=device)[None]
            return columns_1L.expand(layout.batch, layout.length)
        real_BL = input_ids.ne(pad).int()
        return (torch.cumsum(real_BL, dim=1).type_as(real_BL) * real_BL).long() + pad


def _in_range(name: str, ids: Tensor, size: int) -> Tensor:
    """`ids`, checked against the table's size where looking costs little (on the CPU)."""
    if ids.device.type == "cpu" and ids.numel() and not torch.compiler.is_compiling():
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= size:
            raise InputError(f"`{name}` must lie in 0…{size - 1}, the table's rows; found {low}…{high}.")
    return ids
