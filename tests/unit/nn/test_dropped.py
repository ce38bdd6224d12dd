"""Dropout by own draws: rate, expectation and gradients; attention with it against the formula."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from biject.nn.attend_dropped import attend_dropped, takes_dropped
from biject.nn.draws import draw_bits, dropped, keep_factors, takes_bits
from biject.nn.heads_apart import heads_apart
from biject.nn.kernels import keys_to_16
from biject.nn.layout import Packed, Padded
from biject.nn.masks import bucket_mask
from biject.nn.packing import first_only, pack, spans
from biject.nn.plan import BatchPlan

from .grouping import spec_of

HEADS, EACH, RATE = 3, 8, 0.3
SPEC = spec_of(HEADS, HEADS * EACH)


def test_bits_cover_the_whole_range_and_repeat_with_the_seed() -> None:
    torch.manual_seed(3)
    bits = draw_bits(400_003)
    assert bits.shape == (400_003,)
    for part in range(4):  # of a 64-bit draw
        mine = bits[part::4].double()
        assert abs(float(mine.mean())) < 5 * 18919 / len(mine) ** 0.5
        assert float(mine.min()) < -32700
        assert float(mine.max()) > 32700
    torch.manual_seed(3)
    assert torch.equal(draw_bits(400_003), bits)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_rate_is_met_and_the_expectation_exact(rate: float) -> None:
    every = torch.arange(-(2**15), 2**15).to(torch.int16)
    factors = keep_factors(every, rate)
    assert abs(float((factors == 0).double().mean()) - rate) <= 2**-17
    assert float(factors.double().mean()) == pytest.approx(1.0, abs=1e-7)
    assert len(factors.unique()) == 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_pass_where_numbers_did(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.ones(50, 40, dtype=dtype, requires_grad=True)
    residual = torch.full((50, 40), 2.0, dtype=dtype, requires_grad=True)
    out = dropped(x, nn.Dropout(RATE), own_draws=True, residual_TD=residual)
    out.backward(torch.ones_like(out))
    assert x.grad is not None
    assert residual.grad is not None
    torch.testing.assert_close(out - 2, x.grad, rtol=2**-6, atol=2**-6)  # bfloat16 rounds 2 + 1.43
    assert torch.equal(residual.grad, torch.ones_like(out))
    assert 0.25 < float((x.grad == 0).float().mean()) < 0.35


@pytest.mark.parametrize("rate", [0.0, 1.0, 1e-6])
def test_rates_that_bits_cannot_tell_are_left_to_torch(rate: float) -> None:
    assert not takes_bits(rate)
    x = torch.randn(30, 30)
    torch.manual_seed(0)
    expected = F.dropout(x, rate)
    torch.manual_seed(0)
    assert torch.equal(dropped(x, nn.Dropout(rate), own_draws=True), expected)


def test_draws_are_torchs_where_the_plan_says_so_and_where_a_module_is_no_plain_dropout() -> None:
    class Other(nn.Dropout):
        pass

    x = torch.randn(30, 30)
    torch.manual_seed(0)
    expected = F.dropout(x, RATE) + x
    for module, own in ((nn.Dropout(RATE), False), (Other(RATE), True)):
        torch.manual_seed(0)
        assert torch.equal(dropped(x, module, own_draws=own, residual_TD=x), expected)
    assert torch.equal(dropped(x, nn.Dropout(RATE).eval(), own_draws=True, residual_TD=x), x + x)


def planned(counts: list[int], length: int, *, first: bool = False, spec: Any = SPEC) -> BatchPlan:
    mask = torch.arange(length) < torch.tensor(counts)[:, None]
    layout = pack(mask, spans(mask), keys_to_16)
    layout = first_only(layout) if first else layout
    masks = tuple(
        bucket_mask(spec.mask_kind, bucket, device=torch.device("cpu"), always=True)
        for bucket in layout.buckets
    )
    plan = SimpleNamespace(layout=layout, masks={spec.mask_kind: masks}, prepared={}, own_draws=True)
    return cast(BatchPlan, plan)


def by_the_formula(x: list[Tensor], plan: BatchPlan, spec: Any, rate: float) -> Tensor:
    """Bucket by bucket with plain operations, with the factors that the same seed draws."""
    layout = plan.layout
    assert isinstance(layout, Packed)
    pieces = heads_apart(layout, plan.masks[spec.mask_kind], HEADS).pieces
    factors = keep_factors(draw_bits(pieces[-1].score.stop), rate)
    contexts = []
    for bucket, mask, piece in zip(layout.buckets, plan.masks[spec.mask_kind], pieces, strict=True):
        q, k, v = (
            grid(rows).view(bucket.batch, -1, HEADS, EACH).transpose(1, 2)
            for grid, rows in zip((bucket.query_grid, bucket.key_grid, bucket.key_grid), x, strict=True)
        )
        scores = q @ k.mT * spec.scale
        if mask is not None:
            scores = scores.masked_fill(~mask, torch.finfo(torch.float32).min)
        weights = scores.softmax(-1)
        if mask is not None:
            weights = weights * mask.any(-1, keepdim=True)
        kept = weights * factors[piece.score].view(weights.shape)
        contexts.append((kept @ v).transpose(1, 2).flatten(2))
    return layout.unbucket(contexts)


def attended(x: list[Tensor], plan: BatchPlan, spec: Any = SPEC) -> Tensor:
    q, k, v = x
    return attend_dropped(q, k, v, plan, spec, RATE)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    "counts, length",
    [([3, 40, 16, 17, 9], 40), ([32, 32], 32), ([0, 20, 33], 40)],
    ids=["mixed", "full", "a text of padding"],
)
def test_attention_and_its_gradients(counts: list[int], length: int, causal: bool, first: bool) -> None:
    spec = spec_of(HEADS, HEADS * EACH, causal=causal)
    plan = planned(counts, length, first=first, spec=spec)
    rows = sum(count or length for count in counts)
    draw = torch.Generator().manual_seed(0)
    x = [torch.randn(rows, HEADS * EACH, generator=draw).requires_grad_() for _ in range(3)]
    torch.manual_seed(1)
    expected = by_the_formula(x, plan, spec, RATE)
    torch.manual_seed(1)
    out = attended([each.view(-1, HEADS, EACH) for each in x], plan, spec)
    torch.testing.assert_close(out, expected)
    given = torch.randn(out.shape, generator=draw)
    for mine, other in zip(
        torch.autograd.grad(out, x, given), torch.autograd.grad(expected, x, given), strict=True
    ):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


def test_half_precision_and_autocast_sum_in_float32() -> None:
    plan = planned([3, 40, 16], 40)
    x = [torch.randn(59, HEADS, EACH).bfloat16().requires_grad_() for _ in range(3)]
    outs = []
    for numbers, narrow in ((x, False), (x, True), ([each.float() for each in x], False)):
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            outs.append(attended(numbers, plan))
    assert [out.dtype for out in outs] == [torch.bfloat16, torch.bfloat16, torch.float32]
    assert torch.equal(outs[0], outs[1])
    assert torch.equal(outs[0], outs[2].bfloat16())
    outs[0].sum().backward()
    assert all(each.grad is not None and each.grad.dtype is torch.bfloat16 for each in x)


def test_large_buckets_are_cut_and_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x = [torch.randn(5 * 32, HEADS, EACH) for _ in range(3)]
    outs = []
    for most in (1, 1 << 20):
        monkeypatch.setattr("biject.nn.heads_apart.PIECE_SCORES", most)
        plan = planned([32, 30, 32, 29, 32, 5][:5], 32)
        rows = [each[:155] for each in x]
        torch.manual_seed(1)
        outs.append(attended(rows, plan))
        pieces = plan.prepared[HEADS, SPEC.mask_kind].pieces
        assert len(pieces) == (5 if most == 1 else 1)
    torch.testing.assert_close(outs[0], outs[1])


def test_the_mean_over_draws_is_attention_without_dropout() -> None:
    plan = planned([3, 20], 20)
    x = [torch.randn(23, HEADS, EACH) for _ in range(3)]
    exact = by_the_formula([each.flatten(1) for each in x], plan, SPEC, 0.0)
    outs = torch.stack([attended(x, plan) for _ in range(3000)])
    error = (outs.mean(0) - exact).abs() / (outs.std(0) / 3000**0.5)
    assert float(error.max()) < 5


def test_what_it_leaves_to_torch() -> None:
    plan, q = planned([3, 20], 20), torch.randn(23, HEADS * EACH)
    assert takes_dropped(plan, SPEC, q, RATE)
    assert not takes_dropped(plan, SPEC, q, 0.0)
    assert not takes_dropped(plan, SPEC, q.double(), RATE)
    assert not takes_dropped(plan, spec_of(4, 32, groups=2), q, RATE)
    changes: list[dict[str, Any]] = [
        {"own_draws": False},
        {"layout": Padded(batch=2, length=20, mask_BL=None)},
    ]
    for change in changes:
        other = SimpleNamespace(**{**vars(plan), **change})
        assert not takes_dropped(cast(BatchPlan, other), SPEC, q, RATE)
