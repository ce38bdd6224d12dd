"""Faults of an implementation, injected into our own model: embeddings, layers, heads, training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import biject.nn.rows as rows
import biject.nn.transformer as transformer
from biject.model import Model
from biject.nn.disentangled import relative_distances
from biject.nn.layout import Padded
from biject.nn.loss import row_loss
from biject.nn.modules import RMSNorm
from biject.verify.faults.inject import input_changed, output_changed, part, patched
from biject.verify.faults.outcome import DoesNotApply

_ERF = ("gelu", "gelu_python", "gelu_10")
_TANH = ("gelu_new", "gelu_fast", "gelu_accurate", "gelu_pytorch_tanh", "gelu_python_tanh")
_TORCH_EPS, _HF_EPS = 1e-5, 1e-12


@contextmanager
def position_plus_one(model: Model) -> Iterator[str]:
    """Positions count from one too far; relative distances are one too large."""
    if "positions" in model.config.embedding.order:
        table = part(model, "embed.positions")
        rows = model.config.embedding.max_position_embeddings
        with input_changed(table, lambda ids: (ids + 1) % rows):
            yield "embed.positions"
        return
    if model.relative is None:
        raise DoesNotApply("the model has no positions of its own, or only their differences count")
    with patched(transformer, "relative_distances", lambda *args: relative_distances(*args) + 1):
        yield "relative distances"


@contextmanager
def positions_over_padding(model: Model) -> Iterator[str]:
    """Positions count columns where they should count tokens that are no padding."""
    if model.embed.rule != "after-pad" or "positions" not in model.config.embedding.order:
        raise DoesNotApply("positions of this family do not depend on padding")
    with patched(model.embed, "rule", "arange"):
        yield "embed.positions"


@contextmanager
def segments_left_out(model: Model) -> Iterator[str]:
    """Segment rows are not added."""
    table = part(model, "embed.segments")
    if not bool(next(table.parameters()).any()):
        raise DoesNotApply("the segment table is zero")
    with output_changed(table, lambda _, rows: torch.zeros_like(rows)):
        yield "embed.segments"


@contextmanager
def embedding_norm_left_out(model: Model) -> Iterator[str]:
    """The sum of the embeddings is not normalised."""
    if not model.config.embedding.norm:
        raise DoesNotApply("the sum of the embeddings is not normalised")
    with output_changed(model.embed_norm, lambda x, _: x):
        yield "embed_norm"


@contextmanager
def other_gelu(model: Model) -> Iterator[str]:
    """GELU's tanh approximation in place of erf, or the other way round."""
    name = model.config.hidden_act
    if name not in (*_ERF, *_TANH):
        raise DoesNotApply(f"the activation is {name}, no GELU")
    approximate = "tanh" if name in _ERF else "none"
    with ExitStack() as stack:
        for layer in model.layers:
            stack.enter_context(patched(layer.mlp, "act", lambda x: F.gelu(x, approximate=approximate)))
        yield f"{name} computed with approximate={approximate!r}"


@contextmanager
def eps_default(model: Model) -> Iterator[str]:
    """Norms have torch's default epsilon, not the config's."""
    wrong = _HF_EPS if model.config.norm_eps == _TORCH_EPS else _TORCH_EPS
    with ExitStack() as stack:
        for module in model.modules():
            if isinstance(module, nn.LayerNorm | RMSNorm):
                stack.enter_context(patched(module, "eps", wrong))
        yield f"eps {model.config.norm_eps:g} -> {wrong:g}"


@contextmanager
def residual_left_out(model: Model) -> Iterator[str]:
    """The attention's output is not added to its input."""
    with _residual(model, "layers.0", "attn", times=-1):
        yield "layers.0.attn"


@contextmanager
def layers_reversed(model: Model) -> Iterator[str]:
    """Layers run in another order."""
    order = model.config.layer_order
    if order == order[::-1]:
        raise DoesNotApply("the same layer runs at every step")
    with patched(model, "config", replace(model.config, layer_order=order[::-1])):
        yield f"{order} -> {order[::-1]}" if len(order) < 8 else "layers run from last to first"


@contextmanager
def residual_twice(model: Model) -> Iterator[str]:
    """The MLP's input is added to its output twice."""
    layer = f"layers.{model.config.layer_order[-1]}"
    with _residual(model, layer, "mlp", times=1):
        yield f"{layer}.mlp"


@contextmanager
def _residual(model: Model, layer: str, name: str, *, times: int) -> Iterator[None]:
    """Add to a part's output what is added to it anyway, `times` over."""
    if model.config.norm_place == "post":

        def added(x: Tensor, out: Tensor) -> Tensor:
            return out + times * x if out.shape == x.shape else out  # a last layer may give fewer rows

        with output_changed(part(model, f"{layer}.{name}"), added):
            yield
        return
    entering: list[Tensor] = []

    def keep(x: Tensor) -> Tensor:
        entering[:] = [x]
        return x

    with (
        input_changed(part(model, f"{layer}.{name}_norm"), keep),
        output_changed(part(model, f"{layer}.{name}"), lambda _, out: out + times * entering[0]),
    ):
        yield


@contextmanager
def pools_last_column(model: Model) -> Iterator[str]:
    """The pooler, or the head, reads the last column."""
    if model.pooler is None and (model.config.head is None or model.config.head.kind != "pooled"):
        raise DoesNotApply("nothing is pooled")
    with patched(Padded, "first", lambda layout, x_TD: layout.grid(x_TD)[:, -1]):
        yield "pooler" if model.pooler is not None else "head"


@contextmanager
def decoder_bias_left_out(model: Model) -> Iterator[str]:
    """The tied decoder has no bias."""
    decoder: Any = part(model, "head.decoder")
    right = getattr(decoder, "bias", None)
    if right is None:
        raise DoesNotApply("the decoder has no bias")
    if not bool(right.any()):
        raise DoesNotApply("the bias is zero")
    decoder.bias = nn.Parameter(torch.zeros_like(right))
    try:
        yield "head.decoder.bias"
    finally:
        decoder.bias = right


@contextmanager
def head_activation_left_out(model: Model) -> Iterator[str]:
    """The head's dense layer has no activation."""
    head: Any = model.head
    kind = model.config.head
    if kind is None or not kind.dense_size or kind.act == "linear":
        raise DoesNotApply("the head has no activation")
    with patched(head, "act", lambda x: x):
        yield f"{kind.act} before the head's output"


@contextmanager
def ignored_labels_counted(model: Model) -> Iterator[str]:
    """Labels of -100 count in the loss as class 0."""
    kind = model.config.head.kind if model.config.head else None
    if kind not in ("tokens", "vocab", "causal"):
        raise DoesNotApply("the head has no label for each token")

    def wrong(logits: Tensor, labels: Tensor, **rest: Any) -> Tensor:
        return row_loss(logits, labels.clamp(min=0), **rest)

    with patched(rows, "row_loss", wrong):
        yield "the loss"


@contextmanager
def other_dropout(model: Model) -> Iterator[str]:
    """One dropout has another rate: only training sees it."""
    dropout: Any = part(model, "layers.0.attn_dropout")
    wrong = 0.25 if dropout.p == 0.5 else 0.5
    with patched(dropout, "p", wrong):
        yield f"layers.0.attn_dropout, {dropout.p}"


@contextmanager
def attention_dropout_left_out(model: Model) -> Iterator[str]:
    """Attention weights are not dropped in training."""
    attention: Any = part(model, "layers.0.attn")
    if not attention.dropout:
        raise DoesNotApply("attention has no dropout")
    with patched(attention, "dropout", 0.0):
        yield "layers.0.attn"


@contextmanager
def gradient_lost(model: Model) -> Iterator[str]:
    """One parameter no longer learns."""
    fused = model.config.causal is not None and model.config.causal.fused
    name = f"layers.0.attn.{'qkv' if fused else 'v'}_proj.weight"
    weight = model.get_parameter(name)
    weight.requires_grad_(False)
    try:
        yield name
    finally:
        weight.requires_grad_(True)
