"""Tier `cross-entropy`: the loss of the same logits, of labelled rows alone and in parts, against HF's."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biject.nn.loss import next_labels, row_loss
from biject.nn.modules import Linear
from biject.nn.vocab_loss import vocab_loss
from biject.verify.backends.common import check, random
from biject.verify.report import Check

ROWS, WIDTH, VOCABULARY = 96, 32, 500
GRADIENTS = 1e-6
"""Relative norm that gradients may be apart where logits are made in parts: sums run in another order."""


def shared_logits(folder: Path) -> list[Check]:
    """Losses on one set of logits, some labels left out; shifted by one as for causal models; in parts."""
    del folder
    x, weight = random(ROWS, WIDTH, seed=0), random(VOCABULARY, WIDTH, seed=1)
    labels = torch.randint(0, VOCABULARY, (ROWS,), generator=torch.Generator().manual_seed(2))
    labels[::3] = -100
    logits = F.linear(x, weight)
    theirs = F.cross_entropy(logits, labels)
    shifted = F.cross_entropy(logits[:-1].float(), labels[1:])
    checks = [
        check("rows", row_loss(logits[None], labels[None]), theirs),
        check("next tokens", row_loss(logits[None], next_labels(labels[None]), float32=True), shifted),
    ]
    whole, parts = (_loss(x, weight, labels, budget=budget) for budget in (2**25, 32 * VOCABULARY))
    hf = _gradients(x, weight, lambda a, b: F.cross_entropy(F.linear(a, b), labels))
    checks += [check("labelled rows", whole[0], theirs), check("in parts", parts[0], theirs)]
    for name, mine, other in zip(("inputs", "matrix"), parts[1:], hf[1:], strict=True):
        apart = float((mine - other).norm() / other.norm())
        detail = f"relative norm of the difference {apart:.2g}, bound {GRADIENTS:g}"
        checks.append(
            Check(name=f"gradient of the {name}, in parts", passed=apart <= GRADIENTS, detail=detail)
        )
    return checks


def _loss(x: Tensor, weight: Tensor, labels: Tensor, *, budget: int) -> tuple[Tensor, ...]:
    """Loss and gradients of Biject's loss over a vocabulary, from the labelled rows."""
    places = (labels != -100).nonzero().squeeze(-1)
    decoder = Linear(WIDTH, VOCABULARY, bias=False)

    def loss(a: Tensor, b: Tensor) -> Tensor:
        decoder.weight = b if isinstance(b, nn.Parameter) else nn.Parameter(b)
        chosen = a.index_select(0, places)
        return vocab_loss(chosen, decoder, labels[places], places, total=ROWS, budget=budget)

    return _gradients(x, weight, loss)


def _gradients(x: Tensor, weight: Tensor, loss: object) -> tuple[Tensor, ...]:
    assert callable(loss)
    a, b = x.clone().requires_grad_(), nn.Parameter(weight.clone())
    value: Tensor = loss(a, b)
    value.backward()  # type: ignore[no-untyped-call]
    assert a.grad is not None
    assert b.grad is not None
    return value, a.grad, b.grad
