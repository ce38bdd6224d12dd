"""The loss over a large vocabulary: chunks or not, it is `cross_entropy` over the whole grid."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biject.nn.modules import AddedBiasLinear, Linear
from biject.nn.vocab_loss import cuts, vocab_loss

VOCAB, WIDTH, TOTAL = 211, 16, 90


class LowRank(Linear):
    """A decoder of another kind: its product with a low-rank part that has parameters of its own."""

    def __init__(self) -> None:
        super().__init__(WIDTH, VOCAB)
        draw = torch.Generator().manual_seed(1)
        self.down = nn.Parameter(torch.randn(3, WIDTH, generator=draw))
        self.up = nn.Parameter(torch.randn(VOCAB, 3, generator=draw))

    def forward(self, x_TD: Tensor) -> Tensor:
        return super().forward(x_TD) + F.linear(F.linear(x_TD, self.down), self.up)


def case(*, kind: type[Linear] = Linear, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Linear, Tensor]:
    """Rows of the whole grid, a decoder, labels of which most are ignored."""
    draw = torch.Generator().manual_seed(0)
    decoder = LowRank() if kind is LowRank else kind(WIDTH, VOCAB)
    decoder.bias = nn.Parameter(torch.randn(VOCAB, generator=draw).to(dtype))
    decoder.weight = nn.Parameter(torch.randn(VOCAB, WIDTH, generator=draw).to(dtype))
    x = torch.randn(TOTAL, WIDTH, generator=draw).to(dtype).requires_grad_()
    labels = torch.randint(0, VOCAB, (TOTAL,), generator=draw)
    return x, decoder, labels.masked_fill(torch.rand(TOTAL, generator=draw) < 0.6, -100)


def few(
    x: Tensor, decoder: Linear, labels: Tensor, budget: int, fill: int = 3, softcap: float | None = None
) -> Tensor:
    """The loss from the labelled rows and some that fill up."""
    places = (labels != -100).nonzero().squeeze(-1)
    more = places.new_zeros(fill)
    return vocab_loss(
        x[torch.cat([places, more])],
        decoder,
        torch.cat([labels[places], more - 100]),
        torch.cat([places, more]),
        total=TOTAL,
        softcap=softcap,
        fewest=16,
        budget=budget,
    )


def leaves(x: Tensor, decoder: Linear) -> list[Tensor]:
    return [x, *decoder.parameters()]


@pytest.mark.parametrize("kind", [Linear, AddedBiasLinear, LowRank])
@pytest.mark.parametrize("budget", [2**25, 16 * VOCAB], ids=["at once", "in chunks"])
def test_loss_and_gradients(budget: int, kind: type[Linear]) -> None:
    x, decoder, labels = case(kind=kind)
    expected = F.cross_entropy(decoder(x), labels)
    wanted = torch.autograd.grad(expected, leaves(x, decoder))
    found = few(x, decoder, labels, budget)
    assert torch.equal(found, expected)
    for mine, other in zip(torch.autograd.grad(found, leaves(x, decoder)), wanted, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", [Linear, LowRank])
@pytest.mark.parametrize("budget", [2**25, 16 * VOCAB], ids=["at once", "in chunks"])
def test_capped_logits(budget: int, kind: type[Linear]) -> None:
    x, decoder, labels = case(kind=kind)
    expected = F.cross_entropy(torch.tanh(decoder(x) / 1.5) * 1.5, labels)
    wanted = torch.autograd.grad(expected, leaves(x, decoder))
    found = few(x, decoder, labels, budget, softcap=1.5)
    assert torch.equal(found, expected)
    for mine, other in zip(torch.autograd.grad(found, leaves(x, decoder)), wanted, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-7)
    assert not torch.equal(found, few(x, decoder, labels, budget))  # the cap does something


@pytest.mark.parametrize("budget", [2**25, 16 * VOCAB])
def test_a_scaled_loss_scales_its_gradients(budget: int) -> None:
    x, decoder, labels = case()
    one, half = (
        torch.autograd.grad(scale * few(x, decoder, labels, budget), leaves(x, decoder))
        for scale in (1.0, 0.5)
    )
    assert all(torch.equal(0.5 * a, b) for a, b in zip(one, half, strict=True))


@pytest.mark.parametrize("budget", [2**25, 16 * VOCAB])
def test_no_label_at_all(budget: int) -> None:
    """Not a number, as torch says it; gradients, too, are as torch's."""
    x, decoder, labels = case()
    labels = torch.full_like(labels, -100)
    expected = F.cross_entropy(decoder(x), labels)
    found = few(x, decoder, labels, budget, fill=16)
    assert bool(found.isnan())
    assert bool(expected.isnan())


def test_gradients_are_handed_over_once() -> None:
    x, decoder, labels = case()
    loss = few(x, decoder, labels, 16 * VOCAB)
    loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
    with pytest.raises(RuntimeError, match=r"differentiated twice.*layout='padded'"):
        loss.backward()  # type: ignore[no-untyped-call]


def test_half_precision() -> None:
    x, decoder, labels = case(dtype=torch.bfloat16)
    expected = F.cross_entropy(decoder(x), labels)
    wanted = torch.autograd.grad(expected, leaves(x, decoder))
    for budget in (2**25, 16 * VOCAB):
        found = few(x, decoder, labels, budget)
        assert torch.equal(found, expected)
        for mine, other in zip(torch.autograd.grad(found, leaves(x, decoder)), wanted, strict=True):
            assert mine.dtype == torch.bfloat16
            assert float((mine - other).float().norm() / other.float().norm()) < 2e-2  # 8 bits of mantissa


@pytest.mark.parametrize("budget", [2**25, 16 * VOCAB])
def test_autocast(budget: int) -> None:
    x, decoder, labels = case()
    with torch.autocast("cpu", torch.bfloat16):
        expected = F.cross_entropy(decoder(x), labels)
        found = few(x, decoder, labels, budget)
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)


@pytest.mark.parametrize("kind", [Linear, LowRank])
def test_small_gradients_of_float16_live_until_the_loss_scale_comes(kind: type[Linear]) -> None:
    """Under float16, most of softmax over the number of rows is less than the smallest number there is."""
    x, decoder, labels = case(kind=kind)
    for part in decoder.parameters():
        part.data *= 0.1
    decoder.bias.data[::2] -= 9  # unlikely entries
    parts, wanted, found = leaves(x, decoder), [], []
    for budget, made in ((2**25, wanted), (16 * VOCAB, found)):
        with torch.autocast("cpu", torch.float16):
            loss = few(x, decoder, labels, budget)
        made += torch.autograd.grad(loss * 2.0**12, parts)
    for mine, other in zip(found, wanted, strict=True):
        assert mine.dtype == other.dtype == torch.float32
        assert float((mine - other).norm() / other.norm()) < 2e-3  # 11 bits of mantissa
    assert parts[2] is decoder.bias
    exact = torch.autograd.grad(F.cross_entropy(decoder(x), labels) * 2.0**12, decoder.bias)[0]
    # Sums of entries near 1e-6, where float16 steps by 6e-8 (found: 0.8 %); flushed ones are off by 100 %.
    torch.testing.assert_close(found[2], exact, rtol=0.02, atol=0.0)


def test_only_what_is_trained_gets_a_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frozen parts get none, and without gradients none are computed."""
    x, decoder, labels = case()
    decoder.weight.requires_grad_(False)
    few(x, decoder, labels, 16 * VOCAB).backward()  # type: ignore[no-untyped-call]
    assert decoder.weight.grad is None
    assert x.grad is not None
    assert decoder.bias.grad is not None
    monkeypatch.setattr("biject.nn.vocab_loss._add_gradients", None)
    with torch.no_grad():
        few(x, decoder, labels, 16 * VOCAB)


@pytest.mark.parametrize(("count", "size"), [(1, 16), (16, 16), (31, 16), (33, 16), (100, 7)])
def test_chunks_are_never_smaller_than_requested(count: int, size: int) -> None:
    parts = cuts(count, size)
    assert [i for cut in parts for i in range(count)[cut]] == list(range(count))
    assert all(cut.stop - cut.start >= min(size, count) for cut in parts)
