"""Faults of an implementation of decoders: rotary positions, windows, grouped heads, gates, labels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

import biject.nn.attend as attend
import biject.nn.causal as causal
import biject.nn.rotary as rotary
import biject.nn.rows as rows
import biject.nn.transformer as transformer
from biject.config.causal import CausalConfig
from biject.model import Model
from biject.nn.modules import RMSNorm
from biject.nn.rotary import Rotary
from biject.verify.faults.inject import output_changed, part, patched
from biject.verify.faults.outcome import DoesNotApply

_COLUMNS = 13  # of the built-in calls


def _causal(model: Model) -> CausalConfig:
    if model.config.causal is None:
        raise DoesNotApply("attention is not causal")
    return model.config.causal


def _rotary(model: Model) -> Rotary:
    if model.rotary is None:
        raise DoesNotApply("the model has no rotary positions")
    return model.rotary


@contextmanager
def rope_base_changed(model: Model) -> Iterator[str]:
    """Rotary frequencies of another base."""
    module = _rotary(model)
    width = module.frequencies.shape[0]
    factors = 2.0 ** -(torch.arange(width) / width)
    with ExitStack() as stack:
        stack.enter_context(patched(module, "frequencies", module.frequencies * factors))
        if module.long_frequencies is not None:
            stack.enter_context(patched(module, "long_frequencies", module.long_frequencies * factors))
        yield f"base {module.rope.theta:g} -> {2 * module.rope.theta:g}"


@contextmanager
def rope_pairs_interleaved(model: Model) -> Iterator[str]:
    """Neighbours are turned as pairs, not element i with element i + E / 2."""
    _rotary(model)
    if _causal(model).head_dim == 2:
        raise DoesNotApply("heads have width 2: there is one pair")

    def interleaved(x: Tensor) -> Tensor:
        return torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)

    with patched(rotary, "_crossed", interleaved):
        yield "every layer's attention"


@contextmanager
def causal_mask_dropped(model: Model) -> Iterator[str]:
    """Tokens look ahead; padding stays masked."""
    _causal(model)

    def open_mask(
        real_BS: Tensor | None, *, batch: int, queries: int, keys: int, device: Any, **_: Any
    ) -> Tensor:
        if real_BS is None:
            return torch.ones(batch, 1, queries, keys, dtype=torch.bool, device=device)
        return real_BS[:, None, None, :].expand(batch, 1, queries, keys)

    with patched(causal, "causal_mask", open_mask):
        yield "every layer's attention"


@contextmanager
def window_one_too_wide(model: Model) -> Iterator[str]:
    """A token sees one more than its window."""
    windows = {window for window in _causal(model).windows if window is not None}
    if not windows or min(windows) >= _COLUMNS:
        raise DoesNotApply(f"no layer has a window below {_COLUMNS} tokens")
    right = attend.causal_mask

    def wider(*args: Any, window: int | None, **rest: Any) -> Tensor | None:
        return right(*args, window=None if window is None else window + 1, **rest)

    with patched(causal, "causal_mask", wider):
        yield f"windows of {', '.join(map(str, sorted(windows)))}"


@contextmanager
def groups_in_turn(model: Model) -> Iterator[str]:
    """Query heads take key heads in turn, not each its neighbours' one."""
    groups, heads = _causal(model).num_key_value_heads, model.config.num_attention_heads
    if groups in (1, heads):
        raise DoesNotApply("heads share no keys, or all share one")
    right, right_written = attend.attend, attend.attend_written_out

    def in_turn(function: Any) -> Any:
        def wrong(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Any:
            times = q.shape[1] // k.shape[1]
            return function(q, k.repeat(1, times, 1, 1), v.repeat(1, times, 1, 1), **rest)

        return wrong

    with (
        patched(causal, "attend", in_turn(right)),
        patched(causal, "attend_written_out", in_turn(right_written)),
    ):
        yield f"{heads} query heads, {groups} key heads"


@contextmanager
def norm_plus_one(model: Model) -> Iterator[str]:
    """The scale of a norm without bias is taken as 1 + weight, as other families store it."""
    norm = part(model, "layers.0.attn_norm")
    if not isinstance(norm, RMSNorm):
        raise DoesNotApply("norms have a bias")
    with output_changed(norm, lambda _, out: out * (1 + norm.weight) / norm.weight):
        yield "layers.0.attn_norm"


@contextmanager
def head_norm_left_out(model: Model) -> Iterator[str]:
    """Keys are not normalised."""
    norm = part(model, "layers.0.attn.k_norm")
    with output_changed(norm, lambda x, _: x):
        yield "layers.0.attn.k_norm"


@contextmanager
def final_norm_left_out(model: Model) -> Iterator[str]:
    """The last layer's output is not normalised."""
    with output_changed(part(model, "final_norm"), lambda x, _: x):
        yield "final_norm"


@contextmanager
def gate_and_up_swapped(model: Model) -> Iterator[str]:
    """The activation is on the wrong one of two projections."""
    mlp: Any = part(model, "layers.0.mlp")
    if mlp.gate_proj is None:
        raise DoesNotApply("the MLP has no gate")
    modules = mlp._modules
    with patched(mlp, "_modules", {**modules, "gate_proj": mlp.up_proj, "up_proj": mlp.gate_proj}):
        yield "layers.0.mlp"


@contextmanager
def transposed_in_out(model: Model) -> Iterator[str]:
    """A square matrix that is stored (in, out) is read as (out, in)."""
    linear: Any = part(model, "layers.0.attn.o_proj")
    if not model.config.weights_in_out:
        raise DoesNotApply("matrices are stored (out, in)")
    with output_changed(linear, lambda x, _: x @ linear.weight.T + linear.bias):
        yield "layers.0.attn.o_proj"


@contextmanager
def labels_not_shifted(model: Model) -> Iterator[str]:
    """Each row is compared with its own token, not the next one."""
    if model.config.head is None or model.config.head.kind != "causal":
        raise DoesNotApply("the head predicts no next token")
    with patched(rows, "next_labels", lambda labels: labels):
        yield "the loss"


@contextmanager
def last_column_classified(model: Model) -> Iterator[str]:
    """A text's last column is taken, padding or not."""
    if model.config.head is None or model.config.head.kind != "last":
        raise DoesNotApply("no token is classified for its text")
    if model.config.pad_token_id is None:
        raise DoesNotApply("there is no padding token")
    with patched(transformer, "last_columns", lambda *_: -1):
        yield "head"
