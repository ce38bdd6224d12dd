"""The model, top to bottom: embeddings, layers, pooler, head."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from biject.config.model import ModelConfig
from biject.nn.attention import SelfAttention
from biject.nn.disentangled import ConvLayer, DisentangledAttention, RelativeTable, relative_distances
from biject.nn.embeddings import Embeddings
from biject.nn.heads import PooledHead, RowHead, VocabHead, make_head
from biject.nn.inputs import check_inputs, padded_layout
from biject.nn.layout import Padded
from biject.nn.loss import detection_loss, pooled_loss, row_loss, span_loss
from biject.nn.mlp import MLP, in_chunks
from biject.nn.modules import LayerNorm, Linear
from biject.nn.output import ModelOutput
from biject.nn.traces import Traces, emit, steps


class Layer(nn.Module):
    """Attention and MLP, each followed by dropout, residual and norm (post-norm).

    Shape: (T, D) → (T, D).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attn = (
            DisentangledAttention(config, config.relative) if config.relative else SelfAttention(config)
        )
        self.attn_norm = LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.mlp = MLP(config)
        self.mlp_norm = LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.attn_dropout = nn.Dropout(config.attention_out_dropout)
        self.mlp_dropout = nn.Dropout(config.mlp_out_dropout)
        self.chunk_columns = config.feed_forward_chunk_size
        self.chunk_norm = config.feed_forward_chunk_norm

    def forward(self, x_TD: Tensor, layout: Padded, **attention: object) -> Tensor:
        """`attention` goes to the attention module as it is."""
        x_TD = self.attn_norm(self.attn_dropout(self.attn(x_TD, layout, **attention)) + x_TD)
        if self.chunk_norm:
            return in_chunks(self._mlp_block, x_TD, layout, self.chunk_columns)
        out_TD: Tensor = self.mlp_norm(in_chunks(self._mlp, x_TD, layout, self.chunk_columns) + x_TD)
        return out_TD

    def _mlp(self, x_TD: Tensor) -> Tensor:
        out_TD: Tensor = self.mlp_dropout(self.mlp(x_TD))
        return out_TD

    def _mlp_block(self, x_TD: Tensor) -> Tensor:
        out_TD: Tensor = self.mlp_norm(self._mlp(x_TD) + x_TD)
        return out_TD


class Transformer(nn.Module):
    """An encoder with its head. Every parameter is one tensor of the checkpoint.

    Args:
        config: what to build.

    `named_parameters()` are the weight map's memory names. They start on the meta device: values come
    from a file, never from here.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        sizes, hidden = config.embedding, config.hidden_size
        self.config = config
        self.gradient_checkpointing = False
        self.embed = Embeddings(config)
        self.embed_norm = LayerNorm(
            sizes.size if sizes.projection != "before-norm" else hidden, eps=config.norm_eps
        )
        if sizes.projection != "none":
            self.embed_proj = Linear(sizes.size, hidden, bias=sizes.projection_bias)
        self.embed_dropout = nn.Dropout(config.embedding_dropout)
        has_table = config.relative is not None and config.relative.enabled
        self.relative = RelativeTable(config, config.relative) if config.relative and has_table else None
        conv = config.conv
        self.conv = ConvLayer(config, conv.kernel_size, conv.groups, conv.act) if conv else None
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_unique_layers))
        self.pooler = Linear(hidden, hidden) if config.pooler else None
        self.head = make_head(config)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> ModelOutput:
        """Compute every output of the head, and the loss where labels are given.

        Args:
            input_ids: (B, L) token ids.
            attention_mask: (B, L), nonzero where a token is real; None means all are.
            token_type_ids: (B, L) segments; zeros where None; ignored by models without segments.
            position_ids: (B, L) or (1, L); by the family's rule where None.
            inputs_embeds: (B, L, D of the embedding), instead of `input_ids`.
            labels: (B,) or (B, N) for classification, (B, L) for tokens and masked LM, -100 ignored.
            start_positions: (B,) first token of each answer, for question answering.
            end_positions: (B,) last token of each answer.
            output_hidden_states: also return the first layer's input and every step's output; by
                default as config.json says.
            output_attentions: also return the attention weights, which are then computed written
                out, as HF's `eager` does; by default as config.json says.

        Raises:
            InputError: arguments contradict each other or the model's tables.
        """
        config = self.config
        check_inputs(input_ids, inputs_embeds, attention_mask)
        attentions = config.output_attentions if output_attentions is None else output_attentions
        hiddens = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        names = [name for name, on in (("hidden", hiddens), ("attentions", attentions)) if on]
        layout = padded_layout(input_ids, inputs_embeds, attention_mask)
        x_TD = self._embed(layout, input_ids, inputs_embeds, position_ids, token_type_ids)
        with Traces(None, *names) as traces:
            x_TD = self._run_layers(x_TD, layout, weights=attentions)
        return self._finish(
            x_TD,
            layout,
            labels=labels,
            spans=(start_positions, end_positions),
            hidden_states=tuple(map(layout.grid, traces["hidden"])) if hiddens else None,
            attentions=traces["attentions"] if attentions else None,
        )

    def _embed(
        self,
        layout: Padded,
        input_ids: Tensor | None,
        inputs_embeds: Tensor | None,
        position_ids: Tensor | None,
        token_type_ids: Tensor | None,
    ) -> Tensor:
        sizes = self.config.embedding
        x_TD = layout.rows(self.embed(input_ids, inputs_embeds, position_ids, token_type_ids))
        if sizes.projection == "before-norm":
            x_TD = self.embed_proj(x_TD)
        x_TD = self.embed_norm(x_TD)
        if sizes.zero_padding and layout.mask_BL is not None:
            x_TD = x_TD * layout.rows(layout.mask_BL.unsqueeze(-1)).to(x_TD.dtype)
        x_TD = self.embed_dropout(x_TD)
        if sizes.projection == "after-norm":
            x_TD = self.embed_proj(x_TD)
        assert isinstance(x_TD, Tensor)
        return x_TD

    def _run_layers(self, x_TD: Tensor, layout: Padded, *, weights: bool) -> Tensor:
        embedded_TD = x_TD
        attention: dict[str, object] = {"weights": weights}
        if self.config.relative:
            attention["table_PD"] = self.relative() if self.relative is not None else None
            attention["distances"] = relative_distances(layout.length, self.config.relative, x_TD.device)
        emit("hidden", x_TD)
        for step, index in enumerate(steps(self.config.layer_order)):
            x_TD = self._layer(self.layers[index], x_TD, layout, attention)
            if step == 0 and self.conv is not None:
                x_TD = self.conv(embedded_TD, x_TD, layout)
            emit("hidden", x_TD)
        return x_TD

    def _layer(self, layer: nn.Module, x_TD: Tensor, layout: Padded, attention: dict[str, object]) -> Tensor:
        if self.gradient_checkpointing and self.training:
            again: Tensor = checkpoint(partial(layer, **attention), x_TD, layout, use_reentrant=False)
            return again
        out: Tensor = layer(x_TD, layout, **attention)
        return out

    def _finish(
        self,
        x_TD: Tensor,
        layout: Padded,
        *,
        labels: Tensor | None,
        spans: tuple[Tensor | None, Tensor | None],
        hidden_states: tuple[Tensor, ...] | None,
        attentions: tuple[Tensor, ...] | None,
    ) -> ModelOutput:
        """Pooler, head and loss."""
        traced: dict[str, Any] = {"hidden_states": hidden_states, "attentions": attentions}
        first_BD = layout.first(x_TD)
        if self.pooler is not None:
            first_BD = torch.tanh(self.pooler(first_BD))
        if self.head is None:
            pooled = first_BD if self.pooler is not None else None
            return ModelOutput(last_hidden_state=layout.grid(x_TD), pooler_output=pooled, **traced)
        if isinstance(self.head, PooledHead):
            assert self.config.head is not None
            logits = self.head(first_BD)
            loss = None
            if labels is not None:
                loss, logits = pooled_loss(logits, labels, self.config.head)
            return ModelOutput(loss=loss, logits=logits, **traced)
        if isinstance(self.head, VocabHead):
            logits = self.head(x_TD, layout, self.embed.tokens.weight)
        else:
            assert isinstance(self.head, RowHead)
            logits = self.head(x_TD, layout)
        return self._row_output(logits, layout, labels, spans, traced)

    def _row_output(
        self,
        logits_BLN: Tensor,
        layout: Padded,
        labels: Tensor | None,
        spans: tuple[Tensor | None, Tensor | None],
        traced: dict[str, Any],
    ) -> ModelOutput:
        """Names and losses of heads that give logits for every row."""
        kind = self.config.head.kind if self.config.head else ""
        if kind == "spans":
            starts, ends = (part.squeeze(-1).contiguous() for part in torch.split(logits_BLN, 1, dim=-1))
            first, last = spans
            loss = None if first is None or last is None else span_loss(starts, ends, first, last)
            return ModelOutput(loss=loss, start_logits=starts, end_logits=ends, **traced)
        if kind == "detection":
            logits_BL = logits_BLN.squeeze(-1)
            loss = None if labels is None else detection_loss(logits_BL, labels, layout.mask_BL)
            return ModelOutput(loss=loss, logits=logits_BL, **traced)
        loss = None if labels is None else row_loss(logits_BLN, labels)
        return ModelOutput(loss=loss, logits=logits_BLN, **traced)
