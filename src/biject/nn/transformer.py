"""The model, top to bottom: plan, embeddings, layers, head."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from biject.config.layers import AttentionSpec
from biject.config.model import ModelConfig
from biject.config.rope import RopeConfig
from biject.errors import InputError
from biject.nn.balance import with_balance
from biject.nn.batch import Batch, HeadRequest
from biject.nn.draws import dropped
from biject.nn.embeddings import Embeddings
from biject.nn.heads import make_head
from biject.nn.layer import Layer
from biject.nn.lora import LoraModule
from biject.nn.modules import Embedding, Linear, make_norm
from biject.nn.output import ModelOutput
from biject.nn.patches import PatchEmbeddings
from biject.nn.plan import AttentionModule, BatchPlan
from biject.nn.planner import Planner
from biject.nn.relative import RelativeTable
from biject.nn.rotary import Rotary
from biject.nn.traces import Traces, emit, steps


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
        self.planner = Planner()
        self.gradient_checkpointing = False
        self.embed = Embeddings(config) if sizes.patches is None else PatchEmbeddings(config)
        self.embed_norm = make_norm(sizes.norm, hidden if sizes.projection == "before-norm" else sizes.size)
        if sizes.projection != "none":
            self.embed_proj = Linear(sizes.size, hidden, bias=sizes.projection_bias)
        self.embed_dropout = nn.Dropout(sizes.dropout)
        table = config.relative_table
        self.relative = RelativeTable(table, hidden) if table is not None else None
        self.layers = nn.ModuleList(map(Layer, config.layers))
        self.final_norm = make_norm(config.final_norm, hidden)
        self.head = make_head(config)
        self._rotary: dict[RopeConfig, Rotary] = {}
        self.tie_weights()

    def forward(self, batch: Batch, request: HeadRequest) -> ModelOutput:
        """Every output of the head, and the loss where labels are given.

        Raises:
            InputError: arguments contradict each other or the model's tables.
        """
        plan = self.planner(self, batch, request)
        with Traces(None, *request.trace_names) as traces:
            x_TD = self.embed_rows(plan)
            x_TD = self.run_layers(x_TD, plan)
            output: ModelOutput = self.head(x_TD, plan.last)
        output = output.with_traces(request, traces, plan.layout.grid)
        return with_balance(output, self.config, batch.attention_mask)

    def embed_rows(self, plan: BatchPlan) -> Tensor:
        """The rows that go into the first layer: tables, norm, dropout, projection."""
        sizes, layout = self.config.embedding, plan.layout
        x_TD: Tensor = self.embed(layout, plan.batch)
        if sizes.projection == "before-norm":
            x_TD = self.embed_proj(x_TD)
        x_TD = self.embed_norm(x_TD)
        mask_T1 = layout.row_mask() if sizes.zero_padding else None
        if mask_T1 is not None:
            x_TD = x_TD * mask_T1.to(x_TD.dtype)
        x_TD = dropped(x_TD, self.embed_dropout, own_draws=plan.own_draws)
        if sizes.projection == "after-norm":
            x_TD = self.embed_proj(x_TD)
        return x_TD

    def run_layers(self, x_TD: Tensor, plan: BatchPlan) -> Tensor:
        """All layers in their order, and the norm after them: (T, D) → (T, D), or the head's rows."""
        final = len(self.config.layer_order) - 1
        emit("hidden", x_TD)
        for step, index in enumerate(steps(self.config.layer_order)):
            run: Any = self.layers[index]
            here = plan.last if step == final else plan
            if self.gradient_checkpointing and self.training:
                run = partial(checkpoint, run, use_reentrant=False)
            x_TD = run(x_TD, here)
            if step == final and not self.config.hidden_before_norm:
                x_TD = self.final_norm(x_TD)
            emit("hidden", x_TD)
        return self.final_norm(x_TD) if self.config.hidden_before_norm else x_TD

    @property
    def tables(self) -> Embeddings:
        """The token table and those beside it.

        Raises:
            InputError: the model reads pictures and has none.
        """
        if isinstance(self.embed, PatchEmbeddings):
            raise InputError("This model reads pictures: it has no token table.")
        return self.embed

    @property
    def tokens(self) -> Embedding:
        """The token table, see `tables`."""
        return self.tables.tokens

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.embed.main_weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The parameters' dtype."""
        return self.embed.main_weight.dtype

    @property
    def attentions(self) -> tuple[AttentionModule, ...]:
        """Of each distinct layer."""
        return tuple(cast(AttentionModule, layer.attn) for layer in self.layers)

    @property
    def attention_specs(self) -> tuple[AttentionSpec, ...]:
        """Of each distinct layer."""
        return tuple(attention.spec for attention in self.attentions)

    @property
    def row_modules(self) -> tuple[nn.Module, ...]:
        """What computes row by row before the head, for the exactness check."""
        projection = (self.embed_proj,) if self.config.embedding.projection != "none" else ()
        tables = tuple(table for table in self.embed.children() if isinstance(table, LoraModule))
        return (*tables, self.embed_norm, *projection, self.layers, self.final_norm)

    def rotary(self, config: RopeConfig) -> Rotary:
        """Cosines and sines by position, made once per config."""
        if config not in self._rotary:
            self._rotary[config] = Rotary(config)
        return self._rotary[config]

    def tie_weights(self) -> None:
        """Have a language model's head hold the token table, where outputs are tied."""
        output = self.head.output_matrix
        if output is not None and self.config.tied_output:
            output.weight = self.tokens.weight
            self.tokens.keeps_gradient = False  # two gradients are added up, in either's memory
