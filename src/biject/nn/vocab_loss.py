"""Cross-entropy over a large vocabulary, on the rows that have a label, without ever holding all logits.

torch's `linear_cross_entropy` with `options` does the same and was 10 times slower on a CPU (2.13, 154 rows ×
250,002 classes); its mean is not summed in `cross_entropy`'s order, so that the loss's last bits differ.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biject.nn.attend import capped
from biject.nn.modules import AddedBiasLinear, Linear

LOGITS_BUDGET = 2**25
"""Logits in memory at a time."""
_IGNORED = -100


def vocab_loss(
    x_KD: Tensor,
    decoder: nn.Linear,
    labels_K: Tensor,
    places_K: Tensor,
    *,
    total: int,
    float32: bool = False,
    softcap: float | None = None,
    fewest: int = 16,
    budget: int = LOGITS_BUDGET,
) -> Tensor:
    """The mean cross-entropy of HF's whole grid of logits, from the rows with a label.

    Args:
        x_KD: the decoder's inputs.
        decoder: the linear over the vocabulary, of any kind; all its parameters get their gradients.
        labels_K: -100 where a row only fills up.
        places_K: each row's place in the grid of `total` rows; the sum runs in the grid's order.
        total: rows of HF's grid.
        float32: the loss is that of the logits in float32, whatever their dtype.
        softcap: logits are kept within ± this.
        fewest: rows that a product needs for HF's bits.
        budget: logits to hold at a time.
    """
    size = max(budget // decoder.weight.shape[0], fewest)
    if x_KD.shape[0] <= size:
        rows_K = _row_losses(log_softmax(logits_of(decoder, x_KD, softcap), float32=float32), labels_K)
        return _grid_mean(rows_K, labels_K, places_K, total)
    trained: tuple[Tensor, ...] = (x_KD, *decoder.parameters())
    if not torch.is_grad_enabled():  # a Function's inputs would say that gradients are needed all the same
        trained = tuple(part.detach() for part in trained)
    out: Tensor = _Chunked.apply(  # type: ignore[no-untyped-call]
        decoder, labels_K, places_K, total, size, float32, softcap, *trained
    )
    return out


def vocab_scores(
    x_KD: Tensor,
    decoder: nn.Linear,
    labels_K: Tensor,
    places_K: Tensor,
    *,
    total: int,
    float32: bool = False,
    softcap: float | None = None,
    fewest: int = 16,
    budget: int = LOGITS_BUDGET,
) -> tuple[Tensor, Tensor]:
    """The loss of `vocab_loss`, without gradients, and the likeliest entry of each row, (K,)."""
    size = max(budget // decoder.weight.shape[0], fewest)
    rows, best = [], []
    for at in cuts(x_KD.shape[0], size):
        logits_CV = logits_of(decoder, x_KD[at], softcap)
        best.append(logits_CV.argmax(-1))
        rows.append(_row_losses(log_softmax(logits_CV, float32=float32), labels_K[at]))
    return _grid_mean(torch.cat(rows), labels_K, places_K, total), torch.cat(best)


def logits_of(decoder: nn.Linear, x_KD: Tensor, softcap: float | None) -> Tensor:
    """Of rows, kept within ± `softcap`."""
    logits_KV: Tensor = decoder(x_KD)
    return logits_KV if softcap is None else capped(logits_KV, softcap)


def log_softmax(logits: Tensor, *, float32: bool) -> Tensor:
    """Over the vocabulary, as a loss takes it; `float32`: whatever dtype the logits have."""
    float32 = float32 or torch.is_autocast_enabled(logits.device.type)  # as torch's own loss does there
    return F.log_softmax(logits.float() if float32 else logits, -1)


def _row_losses(logp_KV: Tensor, labels_K: Tensor) -> Tensor:
    """(K,): minus the label's log-probability."""
    return -logp_KV.gather(-1, labels_K.clamp(min=0).unsqueeze(-1)).squeeze(-1)


def _grid_mean(rows_K: Tensor, labels_K: Tensor, places_K: Tensor, total: int) -> Tensor:
    """The mean over labelled rows, added up by torch's own loss in the order of the grid: its bits."""
    real = labels_K != _IGNORED
    places_N = places_K[real]
    grid_G1 = rows_K.new_zeros(total, 1).index_put((places_N, torch.zeros_like(places_N)), -rows_K[real])
    targets_G = torch.full((total,), _IGNORED, dtype=torch.long, device=rows_K.device)
    targets_G = targets_G.index_fill(0, places_N, 0)
    return F.nll_loss(grid_G1, targets_G)


class _Chunked(torch.autograd.Function):
    """Some rows' logits at a time; gradients are made on the way, since logits are not kept."""

    @staticmethod
    def forward(
        ctx: Any,
        decoder: nn.Linear,
        labels_K: Tensor,
        places_K: Tensor,
        total: int,
        size: int,
        float32: bool,
        softcap: float | None,
        x_KD: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        trained = (x_KD, *parameters)
        needed = ctx.needs_input_grad[-len(trained) :]
        grads = [_empty(t) if need else None for t, need in zip(trained, needed, strict=True)]
        mean = 1.0 / max(1, int((labels_K != _IGNORED).sum()))
        scale, ctx.scale = (1.0, mean) if _in_float16(x_KD, decoder) else (mean, 1.0)
        plain = softcap is None and type(decoder) in (Linear, AddedBiasLinear)
        add = _add_gradients if plain else _add_any_gradients
        rows = []
        for at in cuts(x_KD.shape[0], size):
            chunk = _Chunk(decoder, x_KD[at], labels_K[at], scale, float32, softcap)
            rows.append(add(grads, at, chunk) if any(needed) else chunk.losses())
        ctx.grads, ctx.dtypes = grads, tuple(t.dtype for t in trained)
        return _grid_mean(torch.cat(rows), labels_K, places_K, total)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        if ctx.grads is None:
            raise RuntimeError(
                "The loss over a large vocabulary was differentiated twice; its gradients are made once and "
                "handed over. Call the model again, or use layout='padded'."
            )
        grads, ctx.grads = ctx.grads, None
        if ctx.scale != 1.0:
            grad = grad.float() * ctx.scale
        finished = (None if g is None else g.mul_(grad.to(g.dtype)) for g in grads)
        ready = (None if g is None else g.to(dtype) for g, dtype in zip(finished, ctx.dtypes, strict=True))
        return (*(None,) * 7, *ready)


def _in_float16(x_KD: Tensor, decoder: nn.Linear) -> bool:
    """Whether the logits are: gradients over the number of rows would then be zeros before the caller's
    factor, that of scaled losses, comes in. They are made for the sum instead, and divided at the end.
    """
    device = x_KD.device.type
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device) is torch.float16
    return torch.float16 in (x_KD.dtype, decoder.weight.dtype)


def _empty(trained: Tensor) -> Tensor:
    """A gradient to add to; float16's are added up in float32, since a sum over all rows may not fit."""
    return torch.zeros_like(trained, dtype=torch.float32 if trained.dtype is torch.float16 else None)


class _Chunk(NamedTuple):
    """Some rows, and how their losses are made."""

    decoder: nn.Linear
    x_CD: Tensor  # noqa: N815
    labels_C: Tensor  # noqa: N815
    scale: float
    """Of gradients: one over the number of labelled rows, or 1 where that is multiplied in at the end."""
    float32: bool
    softcap: float | None

    def losses(self) -> Tensor:
        logits_CV = logits_of(self.decoder, self.x_CD, self.softcap)
        return _row_losses(log_softmax(logits_CV, float32=self.float32), self.labels_C)


def cuts(count: int, size: int) -> list[slice]:
    """Slices of `size` rows or a little more, never fewer."""
    parts = max(1, count // size)
    edges = [count * part // parts for part in range(parts + 1)]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def _add_gradients(grads: list[Tensor | None], at: slice, chunk: _Chunk) -> Tensor:
    """Add the part of a chunk that goes through a plain linear: softmax minus the label, times the chunk's
    scale. Gives the rows' losses.
    """
    decoder, x_CD, labels_C = chunk.decoder, chunk.x_CD, chunk.labels_C
    logits_CV = decoder(x_CD)
    dtype, weight_VD = logits_CV.dtype, decoder.weight
    logp_CV = log_softmax(logits_CV, float32=chunk.float32)
    losses_C = _row_losses(logp_CV, labels_C)
    real_C = labels_C != _IGNORED
    delta_CV = logp_CV.exp_()
    rows = real_C.nonzero().squeeze(-1)
    delta_CV[rows, labels_C[rows]] -= 1
    delta_CV *= (real_C.to(delta_CV.dtype) * chunk.scale).unsqueeze(-1)
    delta_CV = delta_CV.to(dtype)
    grad_x, grad_weight = grads[:2]
    grad_bias = grads[2] if len(grads) > 2 else None
    if grad_x is not None:
        grad_x[at] = (delta_CV @ weight_VD.to(dtype)).to(grad_x.dtype)
    if grad_weight is not None:
        grad_weight.addmm_(delta_CV.t().to(grad_weight.dtype), x_CD.to(grad_weight.dtype))
    if grad_bias is not None:
        grad_bias += delta_CV.sum(0).to(grad_bias.dtype)
    return losses_C


def _add_any_gradients(grads: list[Tensor | None], at: slice, chunk: _Chunk) -> Tensor:
    """The same for a decoder of any kind, by autograd."""
    parameters = tuple(chunk.decoder.parameters())
    x_CD = chunk.x_CD.detach().requires_grad_(grads[0] is not None)
    with torch.enable_grad():
        losses_C = chunk._replace(x_CD=x_CD).losses()
        real_C = chunk.labels_C != _IGNORED
        loss = (losses_C * real_C.to(losses_C.dtype)).sum() * chunk.scale
    needed = [index for index, grad in enumerate(grads) if grad is not None]
    inputs = [(x_CD, *parameters)[index] for index in needed]
    for index, found in zip(needed, torch.autograd.grad(loss, inputs, materialize_grads=True), strict=True):
        grad = grads[index]
        if grad is None:
            continue
        if index == 0:
            grad[at] = found
        else:
            grad += found
    return losses_C.detach()
