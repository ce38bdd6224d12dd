"""The model, top to bottom: embeddings, layers, pooler, head."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from biject.config.model import ModelConfig
from biject.nn.attention import SelfAttention
from biject.nn.causal import causal_call
from biject.nn.choose import Choice, Chooser
from biject.nn.disentangled import ConvLayer, DisentangledAttention, RelativeTable, relative_distances
from biject.nn.embeddings import Embeddings
from biject.nn.heads import PooledHead, RowHead, VocabHead, make_head
from biject.nn.inputs import check_inputs, padded_layout
from biject.nn.layout import Layout
from biject.nn.lm import CausalHead, LastHead, last_columns
from biject.nn.mlp import MLP, in_chunks
from biject.nn.modules import LayerNorm, Linear, make_norm
from biject.nn.output import ModelOutput
from biject.nn.prenorm import PreNormLayer
from biject.nn.rotary import Rotary
from biject.nn.rows import Asked, all_logits, pooled_output, row_output, wanted_logits
from biject.nn.traces import Traces, emit, steps, tracing


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

    def forward(self, x_TD: Tensor, layout: Layout, **attention: object) -> Tensor:
        """`attention` goes to the attention module as it is."""
        attended_TD = self.attn_dropout(self.attn(x_TD, layout, **attention))
        x_TD = self.attn_norm(attended_TD + layout.queries(x_TD))
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


def _layer(config: ModelConfig, index: int) -> nn.Module:
    """The layer that the config asks for."""
    if config.norm_place == "pre":
        assert config.causal is not None
        return PreNormLayer(config, config.causal, index)
    return Layer(config)


class Transformer(nn.Module):
    """An encoder or decoder with its head. Every parameter is one tensor of the checkpoint.

    Args:
        config: what to build.

    `named_parameters()` are the weight map's memory names. They start on the meta device: values come
    from a file, never from here.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        sizes, hidden = config.embedding, config.hidden_size
        self.config = config
        self.chooser = Chooser(config)
        self.gradient_checkpointing = False
        self.embed = Embeddings(config)
        normed = sizes.size if sizes.projection != "before-norm" else hidden
        self.embed_norm = LayerNorm(normed, eps=config.norm_eps) if sizes.norm else nn.Identity()
        if sizes.projection != "none":
            self.embed_proj = Linear(sizes.size, hidden, bias=sizes.projection_bias)
        self.embed_dropout = nn.Dropout(config.embedding_dropout)
        has_table = config.relative is not None and config.relative.enabled
        self.relative = RelativeTable(config, config.relative) if config.relative and has_table else None
        conv = config.conv
        self.conv = ConvLayer(config, conv.kernel_size, conv.groups, conv.act) if conv else None
        self.layers = nn.ModuleList(_layer(config, index) for index in range(config.num_unique_layers))
        pre = config.norm_place == "pre"
        self.final_norm = make_norm(config.norm, hidden, eps=config.norm_eps) if pre else None
        rope = config.causal.rope if config.causal else None
        self.rotary = Rotary(rope) if rope else None
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
        logits_at: Tensor | None = None,
    ) -> ModelOutput:
        """Compute every output of the head, and the loss where labels are given.

        In the packed layout padding is not computed: outputs have HF's shapes and zeros there. A masked-LM
        head given labels computes the labelled rows only, and gives the loss without logits.

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
                out, as HF's `eager` does, for the whole grid; by default as config.json says.
            logits_at: (B, L), True where a masked-LM head's logits are wanted: they come as (K, V), in
                the order of the grid.

        Raises:
            InputError: arguments contradict each other or the model's tables.
        """
        config = self.config
        check_inputs(input_ids, inputs_embeds, attention_mask)
        attentions = config.output_attentions if output_attentions is None else output_attentions
        hiddens = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        names = [name for name, on in (("hidden", hiddens), ("attentions", attentions)) if on]
        grid = padded_layout(input_ids, inputs_embeds, attention_mask)
        asked = Asked(
            input_ids=input_ids, labels=labels, spans=(start_positions, end_positions), logits_at=logits_at
        )
        wanted = asked.places(self.head, grid, packed=self.chooser.layout == "packed")
        choice = self.chooser.choose(
            grid,
            weight=self.embed.tokens.weight,
            training=self.training,
            whole=attentions or asked.needs_grid(self.head, grid, config.pad_token_id),
            head_rows=wanted is None,
        )
        layout = choice.layout
        x_TD = self._embed(layout, input_ids, inputs_embeds, position_ids, token_type_ids)
        with Traces(None, *names) as traces:
            last = self._last_layout(choice, wanted)
            x_TD = self._run_layers(
                x_TD,
                choice,
                last,
                weights=attentions,
                positions=position_ids,
                masked=attention_mask is not None,
            )
        traced: dict[str, Any] = {
            "hidden_states": tuple(map(layout.grid, traces["hidden"])) if hiddens else None,
            "attentions": traces["attentions"] if attentions else None,
        }
        return self._finish(x_TD, choice, last, asked, wanted, traced)

    def _last_layout(self, choice: Choice, wanted_K: Tensor | None) -> Layout:
        """The last layer's: without the rows that nobody reads."""
        if tracing() or (len(self.config.layer_order) == 1 and self.conv is not None):
            return choice.layout
        if isinstance(self.head, PooledHead):
            return choice.first_rows()
        return choice.layout if wanted_K is None else choice.rows_at(wanted_K)

    def _embed(
        self,
        layout: Layout,
        input_ids: Tensor | None,
        inputs_embeds: Tensor | None,
        position_ids: Tensor | None,
        token_type_ids: Tensor | None,
    ) -> Tensor:
        sizes = self.config.embedding
        x_TD = self.embed(layout, input_ids, inputs_embeds, position_ids, token_type_ids)
        if sizes.projection == "before-norm":
            x_TD = self.embed_proj(x_TD)
        x_TD = self.embed_norm(x_TD)
        mask_T1 = layout.row_mask() if sizes.zero_padding else None
        if mask_T1 is not None:
            x_TD = x_TD * mask_T1.to(x_TD.dtype)
        x_TD = self.embed_dropout(x_TD)
        if sizes.projection == "after-norm":
            x_TD = self.embed_proj(x_TD)
        assert isinstance(x_TD, Tensor)
        return x_TD

    def _run_layers(
        self,
        x_TD: Tensor,
        choice: Choice,
        last: Layout,
        *,
        weights: bool,
        positions: Tensor | None,
        masked: bool,
    ) -> Tensor:
        embedded_TD, layout, order = x_TD, choice.layout, self.config.layer_order
        attention: dict[str, object] = {"weights": weights}
        if self.config.relative:
            attention["table_PD"] = self.relative() if self.relative is not None else None
            attention["distances"] = relative_distances(layout.length, self.config.relative, x_TD.device)
        elif self.config.causal:
            no_cache = self.config.causal.split_at_jumps or (self.gradient_checkpointing and self.training)
            attention["call"] = causal_call(
                self.config.causal,
                self.rotary,
                layout,
                positions,
                dtype=x_TD.dtype,
                device=x_TD.device,
                written_out=weights,
                split=no_cache and not masked,
            )
        else:
            attention["attend"] = choice.attend
        emit("hidden", x_TD)
        for step, index in enumerate(steps(order)):
            here = last if step == len(order) - 1 else layout
            x_TD = self._layer(self.layers[index], x_TD, here, attention)
            if step == 0 and self.conv is not None:
                x_TD = self.conv(embedded_TD, x_TD, layout)
            if step == len(order) - 1 and self.final_norm is not None:
                x_TD = self.final_norm(x_TD)
            emit("hidden", x_TD)
        return x_TD

    def _finish(
        self,
        x_TD: Tensor,
        choice: Choice,
        last: Layout,
        asked: Asked,
        wanted_K: Tensor | None,
        traced: dict[str, Any],
    ) -> ModelOutput:
        """Pooler, head and loss."""
        if isinstance(self.head, RowHead):
            assert self.config.head is not None
            return row_output(
                self.config.head, self.head(x_TD, last, on_grid=choice.trunk is not None), last, asked, traced
            )
        if isinstance(self.head, LastHead):
            assert self.config.head is not None
            logits = self.head(
                x_TD, last, last_columns(asked.input_ids, last.batch, self.config.pad_token_id)
            )
            return pooled_output(self.config.head, logits, asked, traced)
        if isinstance(self.head, VocabHead | CausalHead):
            table_VD = self.embed.tokens.weight
            if wanted_K is None:
                return all_logits(self.head, last.grid(self.head(x_TD, table_VD)), asked, traced)
            return wanted_logits(self.head, table_VD, x_TD, choice, last, asked, wanted_K, traced)
        first_BD = last.first(x_TD)
        if self.pooler is not None:
            first_BD = torch.tanh(self.pooler(first_BD))
        if self.head is None:
            pooled = first_BD if self.pooler is not None else None
            return ModelOutput(last_hidden_state=last.grid(x_TD), pooler_output=pooled, **traced)
        assert isinstance(self.head, PooledHead)
        assert self.config.head is not None
        return pooled_output(self.config.head, self.head(first_BD), asked, traced)

    def _layer(self, layer: nn.Module, x_TD: Tensor, layout: Layout, attention: dict[str, object]) -> Tensor:
        if self.gradient_checkpointing and self.training:
            again: Tensor = checkpoint(partial(layer, **attention), x_TD, layout, use_reentrant=False)
            return again
        out: Tensor = layer(x_TD, layout, **attention)
        return out
