"""The loss over a large vocabulary: chunks or not, it is `cross_entropy` over the whole grid."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biject.nn.heads import Decoder
from biject.nn.vocab_loss import _cuts, vocab_loss

VOCAB, WIDTH, TOTAL = 211, 16, 90


def case(*, tied: bool, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Decoder, Tensor, Tensor]:
    """Rows of the whole grid, a decoder, a token table, labels of which most are ignored."""
    draw = torch.Generator().manual_seed(0)
    decoder = Decoder(WIDTH, VOCAB, tied=tied, bias_added=False)
    decoder.bias = nn.Parameter(torch.randn(VOCAB, generator=draw).to(dtype))
    table = torch.randn(VOCAB, WIDTH, generator=draw).to(dtype).requires_grad_()
    if not tied:
        decoder.weight = nn.Parameter(torch.randn(VOCAB, WIDTH, generator=draw).to(dtype))
    x = torch.randn(TOTAL, WIDTH, generator=draw).to(dtype).requires_grad_()
    labels = torch.randint(0, VOCAB, (TOTAL,), generator=draw)
    return x, decoder, table, labels.masked_fill(torch.rand(TOTAL, generator=draw) < 0.6, -100)


def few(x: Tensor, decoder: Decoder, table: Tensor, labels: Tensor, budget: int, fill: int = 3) -> Tensor:
    """The loss from the labelled rows and some that fill up."""
    places = (labels != -100).nonzero().squeeze(-1)
    more = places.new_zeros(fill)
    return vocab_loss(
        x[torch.cat([places, more])],
        decoder,
        table,
        torch.cat([labels[places], more - 100]),
        torch.cat([places, more]),
        total=TOTAL,
        least=16,
        budget=budget,
    )


def leaves(x: Tensor, decoder: Decoder, table: Tensor) -> list[Tensor]:
    return [x, table if decoder.weight is None else decoder.weight, decoder.bias]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("budget", [2**25, 16 * VOCAB], ids=["at once", "in chunks"])
def test_loss_and_gradients(budget: int, tied: bool) -> None:
    x, decoder, table, labels = case(tied=tied)
    expected = F.cross_entropy(decoder(x, table), labels)
    wanted = torch.autograd.grad(expected, leaves(x, decoder, table))
    found = few(x, decoder, table, labels, budget)
    assert torch.equal(found, expected)
    for mine, other in zip(torch.autograd.grad(found, leaves(x, decoder, table)), wanted, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("budget", [2**25, 16 * VOCAB])
def test_a_scaled_loss_scales_its_gradients(budget: int) -> None:
    x, decoder, table, labels = case(tied=True)
    one, half = (
        torch.autograd.grad(scale * few(x, decoder, table, labels, budget), leaves(x, decoder, table))
        for scale in (1.0, 0.5)
    )
    assert all(torch.equal(0.5 * a, b) for a, b in zip(one, half, strict=True))


@pytest.mark.parametrize("budget", [2**25, 16 * VOCAB])
def test_no_label_at_all(budget: int) -> None:
    """Not a number, as torch says it; gradients, too, are as torch's."""
    x, decoder, table, labels = case(tied=True)
    labels = torch.full_like(labels, -100)
    expected = F.cross_entropy(decoder(x, table), labels)
    found = few(x, decoder, table, labels, budget, fill=16)
    assert bool(found.isnan())
    assert bool(expected.isnan())


def test_gradients_are_handed_over_once() -> None:
    x, decoder, table, labels = case(tied=True)
    loss = few(x, decoder, table, labels, 16 * VOCAB)
    loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
    with pytest.raises(RuntimeError, match=r"differentiated twice.*layout='padded'"):
        loss.backward()  # type: ignore[no-untyped-call]


def test_half_precision() -> None:
    x, decoder, table, labels = case(tied=True, dtype=torch.bfloat16)
    expected = F.cross_entropy(decoder(x, table), labels)
    wanted = torch.autograd.grad(expected, leaves(x, decoder, table))
    for budget in (2**25, 16 * VOCAB):
        found = few(x, decoder, table, labels, budget)
        assert torch.equal(found, expected)
        for mine, other in zip(torch.autograd.grad(found, leaves(x, decoder, table)), wanted, strict=True):
            assert mine.dtype == torch.bfloat16
            assert float((mine - other).float().norm() / other.float().norm()) < 2e-2  # 8 bits of mantissa


@pytest.mark.parametrize("budget", [2**25, 16 * VOCAB])
def test_autocast(budget: int) -> None:
    x, decoder, table, labels = case(tied=True)
    with torch.autocast("cpu", torch.bfloat16):
        expected = F.cross_entropy(decoder(x, table), labels)
        found = few(x, decoder, table, labels, budget)
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)


def test_only_what_is_trained_gets_a_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frozen parts get none, and without gradients none are computed."""
    x, decoder, table, labels = case(tied=True)
    table.requires_grad_(False)
    few(x, decoder, table, labels, 16 * VOCAB).backward()  # type: ignore[no-untyped-call]
    assert table.grad is None
    assert x.grad is not None
    assert decoder.bias.grad is not None
    monkeypatch.setattr("biject.nn.vocab_loss._add_gradients", None)
    with torch.no_grad():
        few(x, decoder, table, labels, 16 * VOCAB)


@pytest.mark.parametrize(("count", "size"), [(1, 16), (16, 16), (31, 16), (33, 16), (100, 7)])
def test_chunks_are_never_smaller_than_asked(count: int, size: int) -> None:
    cuts = _cuts(count, size)
    assert [i for cut in cuts for i in range(count)[cut]] == list(range(count))
    assert all(cut.stop - cut.start >= min(size, count) for cut in cuts)
