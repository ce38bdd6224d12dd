"""What mutants and their tests know of the model's modules (of its config: axes.py, changes.py).

Parameter names are the weight map's (`layers.0.attn.q_proj` …). Everything that depends on how configs and
modules are built today is in these three files: a rewrite of `nn/` changes them, and no mutant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from biject.config.model import ModelConfig
from biject.model import Model
from biject.nn.masks import attention_mask
from biject.nn.plan import BatchPlan
from biject.nn.transformer import Transformer
from mutants.axes import axes

COLUMNS = 13
"""Of the verifier's built-in calls: what only longer texts show has no place here."""


def module(model: nn.Module, name: str) -> Any:
    """The module of this name, or None; an identity is none."""
    found = dict(model.named_modules()).get(name)
    return None if isinstance(found, nn.Identity) else found


def rebuilt(model: Model, config: ModelConfig) -> Model:
    """The model built anew from another config, on the same parameters."""
    new = type(model).__new__(type(model))
    new.__dict__.update(model.__dict__)
    Transformer.__init__(new, config)
    found = new.load_state_dict(model.state_dict(keep_vars=True), strict=False, assign=True)
    assert not found.missing_keys, found.missing_keys
    new.planner.layout, new.planner.numerics = model.planner.layout, model.planner.numerics
    return new.train(model.training)


def attentions(model: Model) -> list[Any]:
    """Every layer's attention."""
    return [layer.attn for layer in model.layers]


def leave_out_scale(model: Model, *, layers: slice = slice(None)) -> bool:
    """Give scores the scale 1; whether that changed anything."""
    changed = False
    for attention in attentions(model)[layers]:
        if attention.relative is not None:  # disentangled: divided by √(width of a head · terms)
            attention.relative.terms = 1 / attention.spec.head_dim
            changed = True
        elif attention.spec.scale != 1.0:
            attention.spec, changed = replace(attention.spec, scale=1.0), True
    return changed


def _with_plan(model: Model, change: Callable[[BatchPlan], BatchPlan]) -> None:
    """Give every layer's attention another plan."""
    for attention in attentions(model):
        attention.register_forward_pre_hook(lambda _, args: (args[0], change(args[1])))


def drop_causal_mask(model: Model) -> None:
    """Let tokens look ahead; padding stays masked."""

    def change(plan: BatchPlan) -> BatchPlan:
        opened = []
        for bucket in plan.layout.buckets:
            shape = (bucket.batch, 1, bucket.queries, bucket.keys)
            real = bucket.real_BK
            opened.append(
                torch.ones(shape, dtype=torch.bool) if real is None else real[:, None, None].expand(shape)
            )
        return replace(plan, masks=dict.fromkeys(plan.masks, tuple(opened)))

    _with_plan(model, change)


def drop_padding_mask(model: Model) -> None:
    """Let attention see padding; tokens still look back only, and nothing else loses the mask."""

    def change(plan: BatchPlan) -> BatchPlan:
        masks = {
            kind: tuple(
                attention_mask(
                    kind,
                    None,
                    batch=bucket.batch,
                    queries=bucket.queries,
                    keys=bucket.keys,
                    device=torch.device("cpu"),
                    always=True,
                )
                for bucket in plan.layout.buckets
            )
            for kind in plan.masks
        }
        return replace(plan, masks=masks)

    _with_plan(model, change)


def shift_angles(model: Model) -> None:
    """Rotate each token by the next one's position, the last by the first's."""

    def change(plan: BatchPlan) -> BatchPlan:
        rope = {config: tuple(x.roll(-1, dims=-2) for x in rows) for config, rows in plan.rope.items()}
        return replace(plan, rope=rope)

    _with_plan(model, change)


def change_distances(model: Model, change: Callable[[Tensor], Tensor]) -> None:
    """Give attention other relative distances, (1, L, L)."""

    def changed(plan: BatchPlan) -> BatchPlan:
        assert plan.distances is not None
        return replace(plan, distances=change(plan.distances))

    _with_plan(model, changed)


def swap_position_terms(model: Model) -> None:
    """Exchange the keys and the queries of relative positions."""
    table = model.relative
    assert table is not None
    for attention in attentions(model):
        keys = attention.relative.k_proj or attention.k_proj
        queries = attention.relative.q_proj or attention.q_proj
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


def swap_gate_and_up(model: Model) -> None:
    """Have the first layer's activation on the wrong projection, or the wrong half of one."""
    mlp: Any = module(model, "layers.0.mlp")
    if axes(model).first.mlp.gate == "fused":
        mlp.gate_up_proj.register_forward_hook(
            lambda _, __, out: torch.cat(out.chunk(2, dim=-1)[::-1], dim=-1)
        )
        return
    gate, up = mlp.gate_proj, mlp.up_proj
    gate.register_forward_hook(lambda _, inputs, __: up.forward(*inputs))
    up.register_forward_hook(lambda _, inputs, __: gate.forward(*inputs))


def last_hidden(model: Model) -> nn.Module:
    """What gives the rows that poolers and heads read."""
    return module(model, "final_norm") or model.layers[model.config.layer_order[-1]]


def pooled_entrance(model: Model) -> nn.Module:
    """What is given the rows that are pooled, (B, D)."""
    head: Any = model.head
    if axes(model).pooler:
        return head.pooler
    return head.dropout if head.dense_config is None else head.dropout_in


def classify_last_column(model: Model) -> None:
    """Let a head that classifies each text's last token take the last column, padding or not."""

    def hook(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        x_TD, plan = args
        if plan.batch.input_ids is None:
            return args
        ids = torch.full_like(plan.batch.input_ids, (model.config.pad_token_id or 0) + 1)
        return x_TD, replace(plan, batch=replace(plan.batch, input_ids=ids))

    model.head.register_forward_pre_hook(hook)
