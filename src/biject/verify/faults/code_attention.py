"""Faults of an implementation of attention, plain and disentangled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch

import biject.nn.attend as attend
import biject.nn.causal as causal
import biject.nn.disentangled as disentangled
import biject.nn.transformer as transformer
from biject.config.model import RelativeConfig
from biject.model import Model
from biject.nn.attention import SelfAttention
from biject.nn.causal import CausalAttention
from biject.nn.disentangled import DisentangledAttention, relative_distances
from biject.nn.layout import Group
from biject.verify.faults.inject import output_changed, part, patched
from biject.verify.faults.outcome import DoesNotApply

_COLUMNS = 13  # of the built-in calls


@contextmanager
def scale_left_out(model: Model) -> Iterator[str]:
    """Scores are not divided by the root of the head's width."""
    with ExitStack() as stack:
        for layer in model.layers:
            attention = layer.attn
            if isinstance(attention, SelfAttention | CausalAttention):
                if attention.scale == 1.0:
                    raise DoesNotApply("scores are not scaled")
                stack.enter_context(patched(attention, "scale", 1.0))
        stack.enter_context(
            patched(DisentangledAttention, "_scale", lambda _, x: torch.ones((), dtype=x.dtype))
        )
        yield "every layer's attention"


@contextmanager
def mask_ignored(model: Model) -> Iterator[str]:
    """Padding is attended to."""
    right = attend.causal_mask

    def unmasked(_: torch.Tensor | None, **rest: Any) -> torch.Tensor | None:
        return right(None, **rest)

    with (
        patched(Group, "key_mask", lambda _: None),
        patched(Group, "pair_mask", lambda _: None),
        patched(causal, "causal_mask", unmasked),
    ):
        yield "every layer's attention"


@contextmanager
def heads_mixed(model: Model) -> Iterator[str]:
    """Values are split into heads the wrong way round: E × H in place of H × E."""
    attention: Any = part(model, "layers.0.attn")
    own = model.config.causal
    heads = attention.num_heads if own is None else own.num_key_value_heads
    if heads == 1 or model.config.head_dim == 1:
        raise DoesNotApply("there is one head, or heads have width 1")

    def mix(_: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        width = heads * model.config.head_dim  # values come last where the projection is fused
        others, v = out[..., :-width], out[..., -width:]
        mixed = v.reshape(*v.shape[:-1], -1, heads).transpose(-1, -2).reshape(v.shape)
        return torch.cat((others, mixed), dim=-1)

    name = "qkv_proj" if own is not None and own.fused else "v_proj"
    with output_changed(getattr(attention, name), mix):
        yield f"layers.0.attn.{name}"


def _relative(model: Model) -> RelativeConfig:
    relative = model.config.relative
    if relative is None or not relative.enabled:
        raise DoesNotApply("attention has no relative positions")
    return relative


@contextmanager
def c2p_p2c_swapped(model: Model) -> Iterator[str]:
    """Content-to-position and position-to-content terms take each other's content."""
    relative = _relative(model)
    if not (relative.content_to_position and relative.position_to_content):
        raise DoesNotApply("attention has not both terms")
    right = DisentangledAttention._position_scores

    def wrong(self: Any, q: Any, k: Any, *rest: Any) -> Any:
        swaps = q.shape == k.shape  # a packed batch's last layer has fewer queries
        return right(self, k, q, *rest) if swaps else right(self, q, k, *rest)

    with patched(DisentangledAttention, "_position_scores", wrong):
        yield "every layer's attention"


@contextmanager
def distance_sign_flipped(model: Model) -> Iterator[str]:
    """Key position minus query position, in place of the opposite."""
    _relative(model)
    with patched(transformer, "relative_distances", lambda *args: -relative_distances(*args)):
        yield "relative distances"


@contextmanager
def buckets_left_out(model: Model) -> Iterator[str]:
    """Far distances do not share buckets."""
    relative = _relative(model)
    if relative.buckets <= 0 or relative.buckets // 2 >= _COLUMNS:
        raise DoesNotApply(f"no two of {_COLUMNS} tokens are far enough apart to share a bucket")
    with patched(disentangled, "log_bucket", lambda distance, *_: distance):
        yield "relative distances"


@contextmanager
def table_norm_left_out(model: Model) -> Iterator[str]:
    """The table of relative positions is not normalised."""
    if not _relative(model).norm:
        raise DoesNotApply("the table of relative positions has no norm")
    with output_changed(part(model, "relative.norm"), lambda x, _: x):
        yield "relative.norm"


@contextmanager
def padding_not_zeroed(model: Model) -> Iterator[str]:
    """Embeddings are not multiplied by the mask."""
    sizes = model.config.embedding
    if not sizes.zero_padding:
        raise DoesNotApply("embeddings of this family are not multiplied by the mask")
    with patched(model, "config", replace(model.config, embedding=replace(sizes, zero_padding=False))):
        yield "embed_norm"


@contextmanager
def convolution_left_out(model: Model) -> Iterator[str]:
    """The convolution beside the first layer is not there."""
    right = model.conv
    if right is None:
        raise DoesNotApply("the model has no convolution")
    model.conv = None
    try:
        yield "conv"
    finally:
        model.conv = right
