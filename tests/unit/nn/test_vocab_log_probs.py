"""Log-probabilities of labels: torch's, in parts as at once, and never from all logits together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from biject.errors import InputError
from biject.nn.modules import Linear
from biject.nn.vocab_log_probs import vocab_log_probs
from biject.pretrained import load
from biject.verify.reference import make_reference

ROWS, WIDTH, VOCAB = 70, 8, 50


def parts(*, bias: bool = True) -> tuple[Tensor, Linear, Tensor]:
    draw = torch.Generator().manual_seed(0)
    decoder = Linear(WIDTH, VOCAB, bias=bias).to_empty(device="cpu")
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.normal_(generator=draw)
    x = torch.randn(ROWS, WIDTH, generator=draw).requires_grad_()
    return x, decoder, torch.randint(0, VOCAB, (ROWS,), generator=draw)


def gradients(found: Tensor, x: Tensor, decoder: nn.Module) -> list[Tensor]:
    weights = torch.linspace(-1, 1, ROWS)
    return list(torch.autograd.grad((found * weights).sum(), [x, *decoder.parameters()]))


@pytest.mark.parametrize("budget", [16 * VOCAB, 33 * VOCAB, 2**25])
@pytest.mark.parametrize("bias", [True, False])
def test_equals_torch(budget: int, bias: bool) -> None:
    x, decoder, labels = parts(bias=bias)
    expected = torch.log_softmax(decoder(x), -1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    found = vocab_log_probs(x, decoder, labels, budget=budget)
    assert torch.allclose(found, expected, atol=2e-6)
    for mine, other in zip(gradients(found, x, decoder), gradients(expected, x, decoder), strict=True):
        assert torch.allclose(mine, other, atol=5e-6)


@pytest.mark.parametrize("budget", [16 * VOCAB, 2**25])
def test_capped_logits(budget: int) -> None:
    x, decoder, labels = parts()
    logits = torch.tanh(decoder(x) / 2.0) * 2.0
    expected = torch.log_softmax(logits, -1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    found = vocab_log_probs(x, decoder, labels, softcap=2.0, budget=budget)
    assert torch.allclose(found, expected, atol=2e-6)
    for mine, other in zip(gradients(found, x, decoder), gradients(expected, x, decoder), strict=True):
        assert torch.allclose(mine, other, atol=5e-6)


def test_logits_are_never_held_together() -> None:
    x, decoder, labels = parts()
    sizes: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        found = vocab_log_probs(x, decoder, labels, budget=16 * VOCAB)
    assert max(sizes) < ROWS * VOCAB // 2  # what backward keeps
    sizes.clear()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        vocab_log_probs(x, decoder, labels)
    assert max(sizes) == ROWS * VOCAB  # the test can tell
    assert found.shape == (ROWS,)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_reference("llama", "causal", tmp_path_factory.mktemp("llama") / "model")


def inputs() -> dict[str, Tensor]:
    ids = torch.arange(5, 29).view(2, 12)
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, :3] = -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("numerics", ["exact", "fast"])
def test_a_model_gives_them(layout: Any, numerics: Any, folder: Path) -> None:
    model, given = load(folder, head="causal", layout=layout, numerics=numerics), inputs()
    labels = given.pop("labels")
    with torch.no_grad():
        logits = model(**given).logits[:, :-1]
        found = model(**given, labels=labels, output_log_probs=True)
    assert found.logits is None
    assert found.loss is None
    targets = labels[:, 1:]
    expected = torch.log_softmax(logits, -1).gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    assert torch.allclose(found.log_probs, expected.masked_fill(targets == -100, 0.0), atol=2e-6)
    assert (found.log_probs == 0).equal(targets == -100)


def test_what_cannot_be_asked(folder: Path, tmp_path: Path) -> None:
    model, given = load(folder, head="causal"), inputs()
    labels = given.pop("labels")
    with pytest.raises(InputError, match="needs `labels`"):
        model(**given, output_log_probs=True)
    with pytest.raises(InputError, match="for causal language models"):
        load(make_reference("llama", "seqcls", tmp_path / "c"))(**given, output_log_probs=True)
    with pytest.raises(InputError, match="for causal language models"):
        load(make_reference("bert", "mlm", tmp_path / "m"))(**given, labels=labels, output_log_probs=True)
