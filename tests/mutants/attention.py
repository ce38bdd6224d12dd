"""Mutants of attention, through what goes into and out of its projections."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from biject.model import Model
from mutants import adapter
from mutants.adapter import COLUMNS
from mutants.axes import Axes, axes
from mutants.mutant import Mutant, after, argument, before, in_place, part, require


def _changed(model: Model, projection: str, layer: int, change: Callable[[Tensor], Tensor]) -> None:
    """Change queries, keys or values of one layer, heads apart: (…, H, E)."""
    size = axes(model).head_dim
    _, module, columns = adapter.columns(model, projection, layer=layer)

    def hook(_: Tensor, out: Tensor) -> Tensor:
        own = out[..., columns]
        heads = own.reshape(*own.shape[:-1], -1, size)
        new = out.clone()
        new[..., columns] = change(heads).reshape(own.shape)
        return new

    after(module, hook)


def scale_left_out(model: Model, at: Axes) -> None:
    """Scores are not divided by the root of the head's width."""
    require(adapter.leave_out_scale(model), "scores are not scaled")


def mask_ignored(model: Model, at: Axes) -> None:
    """Padding is attended to."""
    adapter.drop_padding_mask(model)


def mask_lost(model: Model, at: Axes) -> None:
    """The whole model runs without the mask that it is given."""
    argument(model, "attention_mask", lambda _: None)


def causal_mask_dropped(model: Model, at: Axes) -> None:
    """Tokens look ahead; padding stays masked."""
    require(at.causal, "attention is not causal")
    adapter.drop_causal_mask(model)


def heads_mixed(model: Model, at: Axes) -> None:
    """Values are split into heads the wrong way round: E × H in place of H × E."""
    require(at.num_key_heads > 1 and at.head_dim > 1, "there is one head, or heads have width 1")
    _changed(model, "v", 0, lambda v: v.reshape(*v.shape[:-2], v.shape[-1], v.shape[-2]).transpose(-1, -2))


def key_heads_in_turn(model: Model, at: Axes) -> None:
    """Query heads take key heads in turn, not each its neighbours' one."""
    require(at.num_key_heads not in (1, at.num_heads), "heads share no keys, or all share one")
    heads = torch.arange(at.num_heads)
    order = torch.argsort(heads % at.num_key_heads, stable=True)  # which head stands where, by its key head
    back = torch.argsort(order)
    for layer in sorted(set(at.layer_order)):
        _changed(model, "q", layer, lambda q: q[..., order, :])

        def restored(x_TD: Tensor) -> Tensor:
            return x_TD.view(*x_TD.shape[:-1], at.num_heads, -1)[..., back, :].reshape(x_TD.shape)

        before(part(model, f"layers.{layer}.attn.o_proj"), restored)


def rope_pairs_interleaved(model: Model, at: Axes) -> None:
    """Neighbours are turned as pairs, not element i with element i + E / 2."""
    require(at.rope_base, "the model has no rotary positions")
    require(at.head_dim > 2, "heads have width 2: there is one pair")
    pairs = torch.cat((torch.arange(0, at.head_dim, 2), torch.arange(1, at.head_dim, 2)))
    for layer in sorted(set(at.layer_order)):
        for name in ("q", "k"):
            norm = adapter.module(model, f"layers.{layer}.attn.{name}_norm")
            if norm is not None:
                after(norm, lambda _, x: x.unflatten(-1, (-1, at.head_dim))[..., pairs].reshape(x.shape))
            else:
                _changed(model, name, layer, lambda x: x[..., pairs])


def key_norm_left_out(model: Model, at: Axes) -> None:
    """Keys are not normalised."""
    after(part(model, "layers.0.attn.k_norm"), lambda x, _: x)


def position_terms_swapped(model: Model, at: Axes) -> None:
    """Content-to-position and position-to-content terms take each other's positions."""
    require(at.relative and at.relative_terms == 2, "attention has not both terms")
    adapter.swap_position_terms(model)


def distance_sign_flipped(model: Model, at: Axes) -> None:
    """Key position minus query position, in place of the opposite."""
    require(at.relative, "attention has no relative positions")
    adapter.change_distances(model, lambda distances: -distances)


def buckets_left_out(model: Model, at: Axes) -> None:
    """Far distances do not share buckets."""
    require(at.relative, "attention has no relative positions")
    require(
        (at.near_buckets or COLUMNS) < COLUMNS,
        f"no two of {COLUMNS} tokens are far enough apart to share a bucket",
    )

    def plain(distances: Tensor) -> Tensor:
        place = torch.arange(distances.shape[-1])
        return (place[:, None] - place[None, :])[None]

    adapter.change_distances(model, plain)


ATTENTION: tuple[Mutant, ...] = (
    in_place("scale-left-out", scale_left_out),
    in_place("mask-ignored", mask_ignored),
    in_place("mask-lost", mask_lost),
    in_place("causal-mask-dropped", causal_mask_dropped),
    in_place("heads-mixed", heads_mixed),
    in_place("key-heads-in-turn", key_heads_in_turn),
    in_place("rope-pairs-interleaved", rope_pairs_interleaved),
    in_place("key-norm-left-out", key_norm_left_out),
    in_place("c2p-p2c-swapped", position_terms_swapped),
    in_place("distance-sign-flipped", distance_sign_flipped),
    in_place("buckets-left-out", buckets_left_out),
)
