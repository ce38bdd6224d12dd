"""What mutants and their tests know of the model's config and modules; nothing else here reads either.

Parameter names are the weight map's (`layers.0.attn.q_proj` …). Everything that depends on how configs and
modules are built today is in this file: a rewrite of `nn/` changes it, and no mutant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from biject.config.model import ModelConfig
from biject.model import Model
from biject.nn.attend import causal_mask
from biject.nn.layout import Padded
from biject.nn.transformer import Transformer

COLUMNS = 13
"""Of the verifier's built-in calls: what only longer texts show has no place here."""


def module(model: nn.Module, name: str) -> Any:
    """The module of this name, or None."""
    return dict(model.named_modules()).get(name)


def rebuilt(model: Model, config: ModelConfig) -> Model:
    """The model built anew from another config, on the same parameters."""
    new = Model.__new__(Model)
    new.__dict__.update(model.__dict__)
    Transformer.__init__(new, config)
    found = new.load_state_dict(dict(model.named_parameters()), strict=False, assign=True)
    assert not found.missing_keys, found.missing_keys
    new.chooser.layout, new.chooser.numerics = model.chooser.layout, model.chooser.numerics
    return new.train(model.training)


@dataclass(frozen=True, kw_only=True)
class Axes:
    """What a config says about the places of mutants."""

    config: ModelConfig

    @property
    def layer_order(self) -> tuple[int, ...]:
        return self.config.layer_order

    @property
    def activation(self) -> str:
        return self.config.hidden_act

    @property
    def eps(self) -> float:
        return self.config.norm_eps

    @property
    def rms(self) -> bool:
        return self.config.norm == "rms"

    @property
    def pre_norm(self) -> bool:
        return self.config.norm_place == "pre"

    @property
    def embedding_norm(self) -> bool:
        return self.config.embedding.norm

    @property
    def embedding_zeroed(self) -> bool:
        return self.config.embedding.zero_padding

    @property
    def tables(self) -> tuple[str, ...]:
        return self.config.embedding.order

    @property
    def positions_after_pad(self) -> bool:
        return self.config.embedding.position_rule == "after-pad"

    @property
    def num_heads(self) -> int:
        return self.config.num_attention_heads

    @property
    def num_key_heads(self) -> int:
        return self.config.causal.num_key_value_heads if self.config.causal else self.num_heads

    @property
    def head_dim(self) -> int:
        return self.config.head_dim

    @property
    def causal(self) -> bool:
        return self.config.causal is not None

    @property
    def windows(self) -> set[int]:
        return {w for w in self.config.causal.windows if w is not None} if self.config.causal else set()

    @property
    def rope_base(self) -> float | None:
        rope = self.config.causal.rope if self.config.causal else None
        return rope.theta if rope else None

    @property
    def qk_norm(self) -> bool:
        return self.config.causal is not None and self.config.causal.qk_norm

    @property
    def relative(self) -> bool:
        return self.config.relative is not None and self.config.relative.enabled

    @property
    def relative_terms(self) -> int:
        relative = self.config.relative
        return relative.content_to_position + relative.position_to_content if relative else 0

    @property
    def relative_norm(self) -> bool:
        return self.relative and self.config.relative is not None and self.config.relative.norm

    @property
    def near_buckets(self) -> int | None:
        """From which distance on buckets are shared; None where none is."""
        relative = self.config.relative
        return relative.buckets // 2 if relative is not None and relative.buckets > 0 else None

    @property
    def convolution(self) -> bool:
        return self.config.conv is not None

    @property
    def gated(self) -> bool:
        return self.config.gated

    @property
    def stored_in_out(self) -> bool:
        return self.config.weights_in_out

    @property
    def attention_dropout(self) -> float:
        return self.config.attention_dropout

    @property
    def pooler(self) -> bool:
        return self.config.pooler

    @property
    def head_kind(self) -> str:
        return self.config.head.kind if self.config.head else "none"

    @property
    def head_activation(self) -> str | None:
        head = self.config.head
        return head.act if head is not None and head.dense_size and head.act != "linear" else None

    @property
    def pads(self) -> bool:
        return self.config.pad_token_id is not None


def axes(model: Model) -> Axes:
    """Of a model as it is built."""
    return Axes(config=model.config)


def with_positions_by_column(config: ModelConfig) -> ModelConfig:
    return replace(config, embedding=replace(config.embedding, position_rule="arange"))


def without_embedding_norm(config: ModelConfig) -> ModelConfig:
    return replace(config, embedding=replace(config.embedding, norm=False))


def without_zeroed_padding(config: ModelConfig) -> ModelConfig:
    return replace(config, embedding=replace(config.embedding, zero_padding=False))


def with_activation(config: ModelConfig, name: str) -> ModelConfig:
    return replace(config, hidden_act=name)


def with_eps(config: ModelConfig, eps: float) -> ModelConfig:
    return replace(config, norm_eps=eps)


def with_layer_order(config: ModelConfig, order: tuple[int, ...]) -> ModelConfig:
    return replace(config, layer_order=order)


def without_head_activation(config: ModelConfig) -> ModelConfig:
    assert config.head is not None
    return replace(config, head=replace(config.head, act="linear"))


def without_attention_dropout(config: ModelConfig) -> ModelConfig:
    return replace(config, attention_dropout=0.0)


def without_relative_norm(config: ModelConfig) -> ModelConfig:
    assert config.relative is not None
    return replace(config, relative=replace(config.relative, norm=False))


def without_convolution(config: ModelConfig) -> ModelConfig:
    return replace(config, conv=None)


def with_rope_base(config: ModelConfig, theta: float) -> ModelConfig:
    assert config.causal is not None
    assert config.causal.rope is not None
    return replace(config, causal=replace(config.causal, rope=replace(config.causal.rope, theta=theta)))


def with_wider_windows(config: ModelConfig, by: int) -> ModelConfig:
    assert config.causal is not None
    windows = tuple(None if window is None else window + by for window in config.causal.windows)
    return replace(config, causal=replace(config.causal, windows=windows))


def attentions(model: Model) -> list[Any]:
    """Every layer's attention."""
    return [layer.attn for layer in model.layers]


def leave_out_scale(model: Model, *, layers: slice = slice(None)) -> bool:
    """Give scores the scale 1; whether that changed anything."""
    changed = False
    for attention in attentions(model)[layers]:
        if hasattr(attention, "factor"):  # disentangled: divided by √(width of a head · terms)
            attention.factor = model.config.num_attention_heads / model.config.hidden_size
            changed = True
        elif attention.scale != 1.0:
            attention.scale, changed = 1.0, True
    return changed


def _rearrange(model: Model, change: Callable[[Any, dict[str, Any]], tuple[Any, dict[str, Any]]]) -> None:
    """Give every layer's attention another layout and other arguments, where the layout is padded."""

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        x_TD, layout = args
        if isinstance(layout, Padded):
            layout, kwargs = change(layout, kwargs)
        return (x_TD, layout), kwargs

    for attention in attentions(model):
        attention.register_forward_pre_hook(hook, with_kwargs=True)


def drop_causal_mask(model: Model) -> None:
    """Let tokens look ahead; padding stays masked."""

    def change(layout: Padded, kwargs: dict[str, Any]) -> tuple[Padded, dict[str, Any]]:
        shape = (layout.batch, 1, layout.length, layout.length)
        real = layout.mask_BL
        opened = torch.ones(shape, dtype=torch.bool) if real is None else real[:, None, None].expand(shape)
        masks = dict.fromkeys(kwargs["call"].masks, opened)
        return layout, {**kwargs, "call": replace(kwargs["call"], masks=masks)}

    _rearrange(model, change)


def drop_padding_mask(model: Model) -> None:
    """Let attention see padding; tokens still look back only, and nothing else loses the mask."""

    def change(layout: Padded, kwargs: dict[str, Any]) -> tuple[Padded, dict[str, Any]]:
        if "call" in kwargs:
            sizes = {"batch": layout.batch, "queries": layout.length, "keys": layout.length}
            masks = {
                window: causal_mask(None, **sizes, window=window, device=torch.device("cpu"), always=True)
                for window in kwargs["call"].masks
            }
            kwargs = {**kwargs, "call": replace(kwargs["call"], masks=masks)}
        return replace(layout, mask_BL=None), kwargs

    _rearrange(model, change)


def change_distances(model: Model, change: Callable[[Tensor], Tensor]) -> None:
    """Give attention other relative distances, (1, L, L)."""
    _rearrange(model, lambda layout, given: (layout, {**given, "distances": change(given["distances"])}))


def swap_position_terms(model: Model) -> None:
    """Exchange the keys and the queries of relative positions."""
    table = model.relative
    assert table is not None
    for attention in attentions(model):
        keys = getattr(attention, "pos_k_proj", attention.k_proj)
        queries = getattr(attention, "pos_q_proj", attention.q_proj)
        for own, other in ((keys, queries), (queries, keys)):
            own.register_forward_hook(_of_table(table, other))


def _of_table(table: nn.Module, other: nn.Linear) -> Callable[..., Tensor]:
    """A hook for a projection that tokens may share: only the table's rows are given to the other one."""

    def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        rows = table()
        given = inputs[0].reshape(-1, rows.shape[-1])
        is_table = given.shape == rows.shape and torch.equal(given, rows)
        return other.forward(inputs[0]) if is_table else output

    return hook


def columns(model: Model, part: str, *, layer: int = 0) -> tuple[str, nn.Module, slice]:
    """Where `q`, `k` or `v` are projected: the module's name, itself, and which of its outputs they are."""
    size, wide, narrow = axes(model).head_dim, axes(model).num_heads, axes(model).num_key_heads
    name = f"layers.{layer}.attn.{part}_proj"
    found = module(model, name)
    if found is not None:
        return name, found, slice(None)
    name = f"layers.{layer}.attn.qkv_proj"
    bounds = {"q": (0, wide), "k": (wide, wide + narrow), "v": (wide + narrow, wide + 2 * narrow)}[part]
    return name, module(model, name), slice(bounds[0] * size, bounds[1] * size)


def gate_and_up(model: Model) -> tuple[nn.Linear, nn.Linear]:
    """The two projections of the first layer's gated MLP."""
    mlp: Any = module(model, "layers.0.mlp")
    return mlp.gate_proj, mlp.up_proj


def last_hidden(model: Model) -> nn.Module:
    """What gives the rows that poolers and heads read."""
    return model.final_norm if model.final_norm is not None else model.layers[model.config.layer_order[-1]]


def classify_last_column(model: Model) -> None:
    """Let a head that classifies each text's last token take the last column, padding or not."""
    assert model.head is not None
    model.head.register_forward_pre_hook(lambda _, inputs: (*inputs[:2], -1))
