"""Log-probabilities of chosen tokens over a large vocabulary, without ever holding all logits."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from biject.nn.vocab_loss import LOGITS_BUDGET, cuts, logits_of


def vocab_log_probs(
    x_KD: Tensor,
    decoder: nn.Linear,
    labels_K: Tensor,
    *,
    float32: bool = False,
    softcap: float | None = None,
    fewest: int = 16,
    budget: int = LOGITS_BUDGET,
) -> Tensor:
    """Each row's log-probability of its label: (K, D) → (K,).

    Where the logits are more than the budget, they are computed in parts, and again in the backward pass.

    Args:
        x_KD: the decoder's inputs.
        decoder: the linear over the vocabulary, of any kind.
        labels_K: ids; negative ones, which only fill up, count as 0.
        float32: softmax of the logits in float32, whatever their dtype.
        softcap: logits are kept within ± this.
        fewest: rows that a product needs for HF's bits.
        budget: logits to hold at a time.
    """
    part = partial(_part, decoder, float32=float32, softcap=softcap)
    size = max(budget // decoder.weight.shape[0], fewest)
    if x_KD.shape[0] <= size:
        return part(x_KD, labels_K)
    if torch.is_grad_enabled():
        part = partial(checkpoint, part, use_reentrant=False)
    return torch.cat([part(x_KD[at], labels_K[at]) for at in cuts(x_KD.shape[0], size)])


def _part(
    decoder: nn.Linear, x_CD: Tensor, labels_C: Tensor, *, float32: bool, softcap: float | None
) -> Tensor:
    logits_CV = logits_of(decoder, x_CD, softcap)
    if float32 or torch.is_autocast_enabled(logits_CV.device.type):
        logits_CV = logits_CV.float()
    own_C: Tensor = logits_CV.gather(-1, labels_C.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return own_C - torch.logsumexp(logits_CV, -1)  # in TRL's order, whose bits these are
