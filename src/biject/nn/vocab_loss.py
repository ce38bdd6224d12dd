"""Cross-entropy over a large vocabulary, on the rows that have a label, without ever holding all logits.

torch's `linear_cross_entropy` with `options` does the same and was 10 times slower on a CPU (2.13, 154 rows ×
250,002 classes); its mean is not summed in `cross_entropy`'s order, so that the loss's last bits differ.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from biject.nn.heads import Decoder
from biject.nn.lm import OutputMatrix

LOGITS_BUDGET = 2**25
"""Logits held at a time."""
_IGNORED = -100


def vocab_loss(
    x_KD: Tensor,
    decoder: Decoder | OutputMatrix,
    table_VD: Tensor,
    labels_K: Tensor,
    places_K: Tensor,
    *,
    total: int,
    float32: bool = False,
    least: int = 16,
    budget: int = LOGITS_BUDGET,
) -> Tensor:
    """The mean cross-entropy of HF's whole grid of logits, from the rows with a label.

    Args:
        x_KD: the decoder's inputs.
        decoder: with its bias and perhaps its weight.
        table_VD: the token table.
        labels_K: -100 where a row only fills up.
        places_K: each row's place in the grid of `total` rows; the sum runs in the grid's order.
        total: rows of HF's grid.
        float32: the loss is that of the logits in float32, whatever their dtype.
        least: rows that a product needs for HF's bits.
        budget: logits to hold at a time.
    """
    weight_VD = table_VD if decoder.weight is None else decoder.weight
    size = max(budget // weight_VD.shape[0], least)
    if x_KD.shape[0] <= size:
        logits_KV = decoder(x_KD, table_VD)
        rows_K = _row_losses(_log_softmax(logits_KV, float32=float32), labels_K)
        return _grid_mean(rows_K, labels_K, places_K, total)
    trained: tuple[Tensor | None, ...] = (x_KD, weight_VD, _bias(decoder))
    if not torch.is_grad_enabled():  # a Function's inputs would say that gradients are wanted all the same
        trained = tuple(None if part is None else part.detach() for part in trained)
    out: Tensor = _Chunked.apply(  # type: ignore[no-untyped-call]
        *trained, decoder, labels_K, places_K, total, size, float32
    )
    return out


def vocab_scores(
    x_KD: Tensor,
    decoder: Decoder | OutputMatrix,
    table_VD: Tensor,
    labels_K: Tensor,
    places_K: Tensor,
    *,
    total: int,
    float32: bool = False,
    least: int = 16,
    budget: int = LOGITS_BUDGET,
) -> tuple[Tensor, Tensor]:
    """The loss of `vocab_loss`, without gradients, and the likeliest entry of each row, (K,)."""
    weight_VD = table_VD if decoder.weight is None else decoder.weight
    size = max(budget // weight_VD.shape[0], least)
    rows, best = [], []
    for at in _cuts(x_KD.shape[0], size):
        logits_CV = decoder(x_KD[at], table_VD)
        best.append(logits_CV.argmax(-1))
        rows.append(_row_losses(_log_softmax(logits_CV, float32=float32), labels_K[at]))
    return _grid_mean(torch.cat(rows), labels_K, places_K, total), torch.cat(best)


def _bias(decoder: Decoder | OutputMatrix) -> Tensor | None:
    return decoder.bias if isinstance(decoder, Decoder) else None


def _log_softmax(logits: Tensor, *, float32: bool) -> Tensor:
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
        x_KD: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        decoder: Decoder | OutputMatrix,
        labels_K: Tensor,
        places_K: Tensor,
        total: int,
        size: int,
        float32: bool,
    ) -> Tensor:
        wanted = ctx.needs_input_grad[:3]
        grads = [
            torch.zeros_like(t) if want and t is not None else None
            for t, want in zip((x_KD, weight_VD, bias_V), wanted, strict=True)
        ]
        real_K = labels_K != _IGNORED
        scale = 1.0 / max(1, int(real_K.sum()))
        rows = []
        for at in _cuts(x_KD.shape[0], size):
            x_CD, labels_C = x_KD[at], labels_K[at]
            logits_CV = decoder(x_CD, weight_VD)
            logp_CV = _log_softmax(logits_CV, float32=float32)
            rows.append(_row_losses(logp_CV, labels_C))
            if any(wanted):
                _add_gradients(grads, at, x_CD, weight_VD, logits_CV.dtype, logp_CV, labels_C, scale)
        ctx.grads = grads
        return _grid_mean(torch.cat(rows), labels_K, places_K, total)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        if ctx.grads is None:
            raise RuntimeError(
                "The loss over a large vocabulary was differentiated twice; its gradients are made once and "
                "handed over. Call the model again, or use layout='padded'."
            )
        grads, ctx.grads = ctx.grads, None
        return (*(None if g is None else g.mul_(grad.to(g.dtype)) for g in grads), *(None,) * 6)


def _cuts(count: int, size: int) -> list[slice]:
    """Slices of `size` rows or a little more, never fewer."""
    parts = max(1, count // size)
    edges = [count * part // parts for part in range(parts + 1)]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def _add_gradients(
    grads: list[Tensor | None],
    at: slice,
    x_CD: Tensor,
    weight_VD: Tensor,
    dtype: torch.dtype,
    logp_CV: Tensor,
    labels_C: Tensor,
    scale: float,
) -> None:
    """Add the chunk's part: softmax minus the label, over the number of labelled rows."""
    real_C = labels_C != _IGNORED
    delta_CV = logp_CV.exp_()
    rows = real_C.nonzero().squeeze(-1)
    delta_CV[rows, labels_C[rows]] -= 1
    delta_CV *= (real_C.to(delta_CV.dtype) * scale).unsqueeze(-1)
    delta_CV = delta_CV.to(dtype)
    grad_x, grad_weight, grad_bias = grads
    if grad_x is not None:
        grad_x[at] = (delta_CV @ weight_VD.to(dtype)).to(grad_x.dtype)
    if grad_weight is not None:
        grad_weight.addmm_(delta_CV.t().to(grad_weight.dtype), x_CD.to(grad_weight.dtype))
    if grad_bias is not None:
        grad_bias += delta_CV.sum(0).to(grad_bias.dtype)
