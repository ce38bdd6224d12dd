"""Experts: grouped products, what they give up for it (nothing), and the balance of their use."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from biject.config.layers import ExpertsConfig
from biject.nn.balance import balance_loss
from biject.nn.experts import Expert, Experts
from biject.nn.grouped import grouped_linear, joined
from biject.nn.traces import Traces

WIDTH, INNER = 32, 24
COUNTS = (5, 0, 3, 17, 1, 0, 6)


def config(**changes: object) -> ExpertsConfig:
    values: dict[str, object] = {"act": "silu", "num_experts": 7, "num_experts_per_tok": 3}
    values |= {"norm_topk_prob": True, "hidden_size": WIDTH, "intermediate_size": INNER, **changes}
    return ExpertsConfig(**values)  # type: ignore[arg-type]


def experts(**changes: object) -> Experts:
    module = Experts(config(**changes)).to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.2, generator=generator)
    return module


def rows(count: int, width: int = WIDTH) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(1))


def matrices(parts: int) -> list[Tensor]:
    found = torch.randn(len(COUNTS) * parts, 8, WIDTH, generator=torch.Generator().manual_seed(2))
    return [one.clone().requires_grad_() for one in found]


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("stacked", [False, True])
def test_groups_have_the_bits_of_torchs_own_product(parts: int, stacked: bool) -> None:
    own = matrices(parts)
    whole = torch.stack([torch.cat(own[i : i + parts]) for i in range(0, len(own), parts)])
    whole = whole.detach().requires_grad_()
    given: Sequence[Tensor] = [whole.detach().clone().requires_grad_()] if stacked else own
    x_SK = rows(sum(COUNTS)).requires_grad_()
    other_SK = x_SK.detach().clone().requires_grad_()
    found = grouped_linear(x_SK, COUNTS, given, parts=1 if stacked else parts)
    offsets = torch.tensor(COUNTS).cumsum(0).to(torch.int32)
    expected = torch.nn.functional.grouped_mm(other_SK, whole.transpose(-2, -1), offs=offsets)
    assert torch.equal(found, expected)
    gradient = rows(*found.shape)
    found.backward(gradient), expected.backward(gradient)
    assert x_SK.grad is not None
    assert other_SK.grad is not None
    assert torch.equal(x_SK.grad, other_SK.grad)
    grads = [one.grad for one in given]
    assert all(one is not None for one in grads), "empty groups have gradients of zeros"
    assert torch.equal(torch.cat([one.reshape(-1) for one in grads if one is not None]), _flat(whole))


def _flat(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad.reshape(-1)


def test_parts_that_lie_side_by_side_are_not_copied() -> None:
    storage = torch.arange(60.0)
    first, second = storage[:20].view(5, 4), storage[20:60].view(10, 4)
    both = joined([first, second])
    assert both.data_ptr() == storage.data_ptr()
    assert torch.equal(both, torch.cat([first, second]))
    apart = joined([second, first])
    assert apart.data_ptr() != second.data_ptr()
    assert torch.equal(apart, torch.cat([second, first]))
    assert torch.equal(joined([first.t(), first.t()]), torch.cat([first.t(), first.t()]))


def test_frozen_matrices_keep_no_input_and_get_no_gradient() -> None:
    own = [one.requires_grad_(False) for one in matrices(1)]
    x_SK = rows(sum(COUNTS)).requires_grad_()
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one) or one, lambda one: one):
        out = grouped_linear(x_SK, COUNTS, own)
    assert not any(one.shape == x_SK.shape for one in kept)
    out.sum().backward()
    assert x_SK.grad is not None
    assert all(one.grad is None for one in own)


def written_out(module: Experts, x_TD: Tensor) -> Tensor:
    """Every expert over every row, weighted by 0 where it was not chosen."""
    weights_TK, chosen_TK = module.route(x_TD)
    total = torch.zeros_like(x_TD)
    assert isinstance(module.experts, nn.ModuleList)
    for number, one in enumerate(module.experts):
        assert isinstance(one, Expert)
        inner = nn.functional.silu(x_TD @ one.gate_proj.weight.t()) * (x_TD @ one.up_proj.weight.t())
        share = (weights_TK * (chosen_TK == number)).sum(-1, keepdim=True)
        total = total + share * (inner @ one.down_proj.weight.t())
    return total


@pytest.mark.parametrize("top", [1, 3, 7])
@pytest.mark.parametrize("norm", [False, True])
def test_are_the_weighted_sum_of_those_chosen(top: int, norm: bool) -> None:
    module = experts(num_experts_per_tok=top, norm_topk_prob=norm)
    x_TD = rows(29)
    assert torch.allclose(module(x_TD), written_out(module, x_TD), atol=1e-5)
    weights_TK, _ = module.route(x_TD)
    assert torch.allclose(weights_TK.sum(-1), torch.ones(29)) == (norm or top == 7)


def test_no_row_is_left_out_when_all_choose_the_same() -> None:
    """There is no capacity: one expert takes all rows, the others none."""
    module = experts(num_experts_per_tok=1)
    with torch.no_grad():
        module.router.weight.zero_()
        module.router.weight[4] = 1.0
    x_TD = rows(40).abs()
    assert module.route(x_TD)[1].unique().tolist() == [4]
    assert torch.allclose(module(x_TD), written_out(module, x_TD), atol=1e-5)


def test_only_active_experts_are_computed() -> None:
    module, x_TD = experts(), rows(50)
    with FlopCounterMode(display=False) as counter:
        module(x_TD)
    chosen = 50 * 3
    assert counter.get_total_flops() == 2 * 50 * WIDTH * 7 + 2 * chosen * WIDTH * INNER * 3


def test_the_router_has_gradients_and_hands_out_its_logits() -> None:
    module, x_TD = experts(), rows(20)
    with Traces(module, "router_logits") as traces:
        module(x_TD).pow(2).sum().backward()
    assert traces["router_logits"][0].shape == (20, 7)
    assert module.router.weight.grad is not None
    assert float(module.router.weight.grad.abs().sum()) > 0


def test_half_precision_by_autocast() -> None:
    module, x_TD = experts(), rows(30)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = module(x_TD)
    out.float().sum().backward()
    assert torch.allclose(out.float(), module(x_TD), atol=0.1)
    assert all(one.grad is not None and one.grad.dtype is torch.float32 for one in module.parameters())


def test_balance_is_one_where_experts_are_used_evenly() -> None:
    """Each expert is chosen as often, and as likely; a single one for all rows costs as much as there are."""
    even = torch.eye(4).repeat(3, 1) * 1e-6
    assert balance_loss([even], 1).item() == pytest.approx(1.0, abs=1e-4)
    one = torch.tensor([[50.0, 0.0, 0.0, 0.0]]).repeat(12, 1)
    assert balance_loss([one], 1).item() == pytest.approx(4.0, abs=1e-4)
    mask = torch.tensor([[1] * 8 + [0] * 4])
    padded = torch.cat([even[:8], one[:4]])
    assert torch.allclose(balance_loss([padded], 1, mask), balance_loss([even[:8]], 1))
