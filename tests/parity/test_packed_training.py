"""Training in the packed layout, dropout off: HF's gradients and its loss curve, within the bound."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from biject.model import Model
from biject.pretrained import load
from parity.harness import hf_model, hf_name, objective
from parity.unequal import ALL, is_packed, labelled, lengths, sizes, texts

Reference = Callable[..., Path]
BOUND = 1e-5
"""Of a difference's norm: a packed gradient sums in another order (`verify`'s own bound, too)."""


def both(make: Reference, model_type: str, head: str, **more: Any) -> tuple[Model, nn.Module]:
    folder = make(model_type, head, overrides=sizes(model_type, 60, **more))
    ours = load(folder)
    return ours, hf_model(folder, ours)


def loss_of(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """The loss, or what reaches every output at real tokens."""
    out = model(**batch)
    if "loss" in out:
        return objective(out)
    total = out["last_hidden_state"][batch["attention_mask"].bool()].pow(2).sum()
    return total + out["pooler_output"].sum() if "pooler_output" in out else total


def gradients(ours: Model, theirs: nn.Module) -> dict[str, tuple[Tensor | None, Tensor | None]]:
    """Ours and HF's by our names."""
    hf = dict(theirs.named_parameters(remove_duplicate=False))
    return {
        binding.memory: (
            ours.get_parameter(binding.memory).grad,
            hf[hf_name(binding.disk[0], hf, ours.family.prefix)].grad,
        )
        for binding in ours.provenance.plan.bindings
    }


@pytest.mark.parametrize(("model_type", "head"), ALL)
def test_gradients(model_type: str, head: str, reference: Reference) -> None:
    ours, theirs = both(reference, model_type, head)
    batch = labelled(ours, texts(ours, lengths(7, 3, 60)))
    assert is_packed(ours, batch)
    mine, other = (loss_of(model, batch) for model in (ours, theirs))
    for loss in (mine, other):
        loss.backward()  # type: ignore[no-untyped-call]
    if head != "base":
        assert torch.equal(mine, other)
    pairs = gradients(ours, theirs)
    largest = max(float(b.norm()) for _, b in pairs.values() if b is not None)
    for name, (a, b) in pairs.items():
        assert (a is None) == (b is None), name
        if a is None or b is None:
            continue
        difference = float((a - b).norm())
        if name.endswith("attn.k_proj.bias"):  # truly zero: what is there is rounding
            assert difference <= BOUND * largest, name
        else:
            assert difference <= BOUND * float(b.norm()) + 1e-12, (name, difference, float(b.norm()))


@pytest.mark.parametrize(
    ("model_type", "head"), [("bert", "seqcls"), ("roberta", "mlm"), ("deberta-v2", "qa")]
)
def test_loss_curve(model_type: str, head: str, reference: Reference) -> None:
    """50 steps of AdamW on changing batches."""
    ours, theirs = both(reference, model_type, head)
    curves = []
    for model in (ours, theirs):
        optimizer, curve = torch.optim.AdamW(model.parameters(), lr=5e-4), []
        for step in range(50):
            batch = labelled(ours, texts(ours, lengths(5, 3, 40, seed=step), seed=step))
            loss = model(**batch).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            curve.append(float(loss.detach()))
        curves.append(torch.tensor(curve, dtype=torch.float64))
    assert float(((curves[0] - curves[1]) / curves[1]).abs().max()) <= BOUND
    assert curves[0][0] != curves[0][-1]


@pytest.mark.parametrize("head", ["mlm", "tokcls"])
def test_accumulation_with_the_trainer(head: str, reference: Reference) -> None:
    """Batches of two at a time, two to a step, are a batch of four: packed as padded."""
    from biject.train.trainer import Trainer

    folder = reference(
        "bert", head, overrides=sizes("bert", 60, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    )
    results = []
    for layout, size, accumulate in (("packed", 2, 2), ("padded", 4, 1)):
        model = load(folder, layout=layout)  # type: ignore[arg-type]
        whole = labelled(model, texts(model, lengths(8, 3, 40)))
        samples = [{name: value[row] for name, value in whole.items()} for row in range(8)]
        torch.manual_seed(0)
        trainer = Trainer(
            model, optimizer=torch.optim.AdamW(model.parameters(), lr=1e-3), accumulate=accumulate
        )
        result = trainer.fit(samples, batch_size=size, epochs=2)
        results.append(torch.tensor(result.losses, dtype=torch.float64))
    assert len(results[0]) == len(results[1]) == 4
    torch.testing.assert_close(results[0], results[1], rtol=BOUND, atol=0)


def test_gradient_checkpointing_changes_nothing(reference: Reference) -> None:
    ours, _ = both(reference, "deberta-v2", "tokcls")
    batch = labelled(ours, texts(ours, lengths(6, 3, 60)))
    found = []
    for checkpointing in (False, True):
        ours.train().zero_grad()
        ours.gradient_checkpointing = checkpointing
        torch.manual_seed(0)
        ours(**batch).loss.backward()
        found.append([p.grad.clone() for p in ours.parameters() if p.grad is not None])
    assert len(found[0]) == len(found[1]) > 0
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
