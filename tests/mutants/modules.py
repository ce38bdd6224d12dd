"""Mutants of embeddings, norms, residuals, MLPs, heads and training: hooks on modules found in the model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from biject.model import Model
from mutants import adapter
from mutants.axes import Axes
from mutants.mutant import Mutant, after, argument, before, in_place, part, require


def position_plus_one(model: Model, at: Axes) -> None:
    """Positions count from one too far; relative distances are one too large."""
    if "positions" in at.tables:
        table = part(model, "embed.positions")
        before(table, lambda ids: (ids + 1) % len(table.weight))
        return
    require(at.relative, "the model has no positions of its own, or only their differences count")
    adapter.change_distances(model, lambda distances: distances + 1)


def segments_left_out(model: Model, at: Axes) -> None:
    """Segment rows are not added."""
    table = part(model, "embed.segments")
    require(bool(table.weight.any()), "the segment table is zero")
    after(table, lambda _, rows: torch.zeros_like(rows))


def residual_left_out(model: Model, at: Axes) -> None:
    """The attention's output is not added to its input."""
    _residual(model, f"layers.{at.layer_order[0]}.attn", pre_norm=at.pre_norm, times=-1)


def residual_twice(model: Model, at: Axes) -> None:
    """The MLP's input is added to its output twice."""
    _residual(model, f"layers.{at.layer_order[-1]}.mlp", pre_norm=at.pre_norm, times=1)


def _residual(model: Model, name: str, *, pre_norm: bool, times: int) -> None:
    """Add to a part's output what is added to it anyway, `times` over."""
    entering: list[Tensor] = []

    def keep(x: Tensor) -> Tensor:
        entering[:] = [x]
        return x

    def added(_: Tensor, out: Tensor) -> Tensor:
        return out + times * entering[0] if out.shape == entering[0].shape else out  # fewer rows are read

    normed = pre_norm and adapter.module(model, f"{name}_norm") is not None
    before(part(model, f"{name}_norm" if normed else name), keep)
    last = f"{name}_out_norm" if adapter.module(model, f"{name}_out_norm") is not None else name
    after(part(model, last), added)


def norm_plus_one(model: Model, at: Axes) -> None:
    """The scale of a norm without bias is taken as 1 + weight, as other families store it."""
    norm = part(model, "layers.0.attn_norm")
    weight = dict(norm.named_parameters()).get("weight")
    require(weight is not None and getattr(norm, "bias", None) is None, "norms have a bias")
    after(norm, lambda _, out: out * (1 + weight) / weight)


def final_norm_left_out(model: Model, at: Axes) -> None:
    """The last layer's output is not normalised."""
    after(part(model, "final_norm"), lambda x, _: x)


def gate_and_up_swapped(model: Model, at: Axes) -> None:
    """The activation is on the wrong one of two projections."""
    require(at.gated, "the MLP has no gate")
    adapter.swap_gate_and_up(model)


def transposed_in_out(model: Model, at: Axes) -> None:
    """A square matrix that is stored (in, out) is read as (out, in)."""
    linear = part(model, "layers.0.attn.o_proj")
    require(at.stored_in_out, "matrices are stored (out, in)")
    after(linear, lambda x, _: x @ linear.weight.T + linear.bias)


def pools_last_column(model: Model, at: Axes) -> None:
    """The pooler, or the head, reads the last column."""
    require(at.pooler or at.head_kind == "pooled", "nothing is pooled")
    rows: list[Tensor] = []
    after(adapter.last_hidden(model), lambda _, out: (rows.append(out), out)[1])

    def last(x_BD: Tensor) -> Tensor:
        out = rows.pop()
        rows.clear()
        whole = out.numel() % x_BD.numel() == 0 and out.shape[0] > x_BD.shape[0]
        return out.reshape(x_BD.shape[0], -1, x_BD.shape[-1])[:, -1] if whole else x_BD

    before(adapter.pooled_entrance(model), last)


def last_column_classified(model: Model, at: Axes) -> None:
    """A text's last column is taken, padding or not."""
    require(at.head_kind == "last", "no token is classified for its text")
    require(at.pads, "there is no padding token")
    adapter.classify_last_column(model)


def decoder_bias_left_out(model: Model, at: Axes) -> None:
    """The tied decoder has no bias."""
    decoder = part(model, "head.decoder")
    right = getattr(decoder, "bias", None)
    require(right is not None and bool(right.any()), "the decoder has no bias, or one of zeros")
    decoder.bias = nn.Parameter(torch.zeros_like(right))


def ignored_labels_counted(model: Model, at: Axes) -> None:
    """Labels of -100 count in the loss as class 0."""
    require(at.head_kind in ("tokens", "vocab", "causal"), "the head has no label for each token")
    argument(model, "labels", lambda labels: labels.clamp(min=0))


def labels_not_shifted(model: Model, at: Axes) -> None:
    """Each row is compared with its own token, not the next one."""
    require(at.head_kind == "causal", "the head predicts no next token")
    argument(model, "labels", lambda labels: nn.functional.pad(labels, (1, 0), value=-100)[:, :-1])


def other_dropout(model: Model, at: Axes) -> None:
    """One dropout has another rate: only training sees it."""
    dropouts = (m for m in part(model, "layers.0").modules() if isinstance(m, nn.Dropout))
    dropout = next(dropouts, None)
    require(dropout is not None, "the first layer has no dropout")
    assert dropout is not None
    dropout.p = 0.25 if dropout.p == 0.5 else 0.5


def gradient_lost(model: Model, at: Axes) -> None:
    """One parameter no longer learns."""
    name, _, _ = adapter.columns(model, "v")
    model.get_parameter(f"{name}.weight").requires_grad_(False)


MODULES: tuple[Mutant, ...] = (
    in_place("position-plus-one", position_plus_one),
    in_place("segments-left-out", segments_left_out),
    in_place("residual-left-out", residual_left_out),
    in_place("residual-twice", residual_twice),
    in_place("norm-plus-one", norm_plus_one),
    in_place("final-norm-left-out", final_norm_left_out),
    in_place("gate-up-swapped", gate_and_up_swapped),
    in_place("in-out-transposed", transposed_in_out),
    in_place("pools-last-column", pools_last_column),
    in_place("last-column-classified", last_column_classified),
    in_place("decoder-bias-left-out", decoder_bias_left_out),
    in_place("ignored-labels-counted", ignored_labels_counted),
    in_place("labels-not-shifted", labels_not_shifted),
    in_place("other-dropout", other_dropout, level="gradients"),
    in_place("gradient-lost", gradient_lost, level="gradients"),
)
