"""rows.c: attention over packed rows, and products with 8-bit codes, against torch's in float64."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from biject.config.layers import AttentionSpec, MaskKind, MLPConfig
from biject.errors import BijectError
from biject.nn.activations import activation
from biject.nn.kernels import TABLE, keys_to_16
from biject.nn.layout import Packed, Padded
from biject.nn.masks import attention_mask
from biject.nn.mlp import MLP
from biject.nn.modules import Linear
from biject.nn.native import build
from biject.nn.native.activations import KINDS, activate
from biject.nn.native.int8 import Int8Linear, Int8MLP, to_int8
from biject.nn.native.rows import attend_rows, fits
from biject.nn.packing import pack, spans

pytestmark = pytest.mark.skipif(build.compiler() is None, reason="needs a C compiler")
COUNTS = (130, 3, 17, 1, 64, 33)


@pytest.fixture(autouse=True, params=[1, 2])
def threads(request: Any) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def packed() -> Packed:
    mask = torch.arange(max(COUNTS)) < torch.tensor(COUNTS)[:, None]
    return pack(mask, spans(mask), keys_to_16)


def spec_of(
    heads: int, groups: int, width: int, window: int | None, *, causal: bool = False
) -> AttentionSpec:
    return AttentionSpec(
        num_heads=heads, num_key_value_heads=groups, head_dim=width, scale=width**-0.5,
        window=window, causal=causal,
    )  # fmt: skip


def expected(q: Tensor, k: Tensor, v: Tensor, ends: list[int], spec: AttentionSpec) -> Tensor:
    out, shared = [], spec.num_heads // spec.num_key_value_heads
    for start, end in itertools.pairwise(ends):
        kind = MaskKind(causal=spec.causal, window=spec.window, mask_queries=False)
        mask = attention_mask(
            kind, None, batch=1, queries=end - start, keys=end - start, device=q.device, always=True
        )
        mask = None if mask is None else mask[0, 0]
        heads = (x[start:end].double().transpose(0, 1) for x in (q, k.repeat_interleave(shared, 1), v.repeat_interleave(shared, 1)))  # fmt: skip  # noqa: E501
        found = F.scaled_dot_product_attention(*heads, attn_mask=mask, scale=spec.scale)
        out.append(found.transpose(0, 1).reshape(end - start, -1))
    return torch.cat(out)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("heads", "groups", "width", "window"), [(3, 3, 32, None), (4, 2, 64, 1), (2, 1, 48, 5), (2, 2, 16, 40)]
)
@pytest.mark.parametrize("causal", [False, True])
def test_attention(
    heads: int, groups: int, width: int, window: int | None, causal: bool, dtype: torch.dtype
) -> None:
    """Rows of one matrix side by side, as fused projections give them; large scores, too."""
    layout, spec = packed(), spec_of(heads, groups, width, window, causal=causal)
    parts = [heads * width, groups * width, groups * width]
    rows = torch.randn(layout.num_tokens, sum(parts), generator=torch.Generator().manual_seed(0))
    for size in (1.0, 8.0):
        whole = (rows * size).to(dtype)
        q, k, v = (x.unflatten(1, (-1, width)) for x in whole.split(parts, dim=1))
        assert layout.cu_seqlens is not None
        truth = expected(q, k, v, layout.cu_seqlens.tolist(), spec)
        found = attend_rows(q, k, v, layout, spec)
        assert found.dtype is dtype
        bound = (2e-6 if dtype is torch.float32 else 2**-8) * float(truth.abs().max()) * size
        assert (found.double() - truth).abs().max() <= bound


def test_a_grid_without_padding() -> None:
    layout, spec = Padded(batch=3, length=21, mask_BL=None), spec_of(2, 2, 16, None)
    q, k, v = torch.randn(3, 63, 2, 16, generator=torch.Generator().manual_seed(1))
    truth = expected(q, k, v, [0, 21, 42, 63], spec)
    assert (attend_rows(q, k, v, layout, spec) - truth).abs().max() <= 2e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", sorted(KINDS))
def test_activations(name: str, dtype: torch.dtype) -> None:
    """Of every size of number, alone and with a gate that stands beside it in one matrix."""
    both = (torch.randn(33, 2 * 37, generator=torch.Generator().manual_seed(0)) * 4).to(dtype)
    both[0, :6] = torch.tensor([0.0, -0.0, 80.0, -80.0, 1e-20, -1e-20])
    x, gate = both.chunk(2, dim=1)
    with torch.inference_mode():
        alone, gated = activate(name, x), activate(name, x, gate)
    assert alone is not None
    assert gated is not None
    bound = 1e-6 if dtype is torch.float32 else 2**-8
    truth = activation(name)(x.double())
    assert alone.dtype is dtype
    assert ((alone.double() - truth).abs() <= bound * truth.abs().clamp_min(1)).all()
    wide = truth * gate.double()
    assert ((gated.double() - wide).abs() <= bound * gate.abs().clamp_min(1) * truth.abs().clamp_min(1)).all()
    x[1, 1] = float("nan")
    with torch.inference_mode():
        found = activate(name, x)
    assert found is not None
    assert found[1, 1].isnan()
    assert found.isnan().sum() == 1


def test_activations_that_torch_computes() -> None:
    x = torch.zeros(2, 16)
    assert activate("silu", x) is None  # gradients could be asked for
    with torch.inference_mode():
        assert activate("silu", x) is not None
        assert activate("relu", x) is None
        assert activate("silu", x.double()) is None
        assert activate("silu", x, x.bfloat16()) is None
        assert activate("silu", x[None]) is None


def test_nan_and_infinity_are_not_lost() -> None:
    layout, spec = Padded(batch=2, length=5, mask_BL=None), spec_of(1, 1, 16, None)
    for bad in (float("nan"), float("inf")):
        q, k, v = torch.ones(3, 10, 1, 16)
        k[2, 0, 3] = bad
        found = attend_rows(q, k, v, layout, spec)
        assert found[:5].isnan().all()
        assert not found[5:].isnan().any()
    linear = Int8Linear(torch.randn(4, 8), None)
    with torch.inference_mode():
        y = linear(torch.tensor([[1.0] * 8, [float("nan")] + [1.0] * 7]))
    assert not y[0].isnan().any()
    assert y[1].isnan().all()


def test_what_it_does_not_take() -> None:
    layout, spec = packed(), spec_of(2, 2, 16, None)
    q = torch.zeros(layout.num_tokens, 32)
    kernel = TABLE["attention", "cpu", "fast"]
    odd = AttentionSpec(num_heads=4, num_key_value_heads=4, head_dim=8, scale=1.0)
    causal = AttentionSpec(num_heads=2, num_key_value_heads=2, head_dim=16, scale=1.0, causal=True)
    hidden = Padded(batch=1, length=4, mask_BL=torch.tensor([[True, True, False, True]]))
    with torch.inference_mode():
        assert kernel.takes_rows(layout, q, spec, 0.0)
        assert not TABLE["attention", "cpu", "exact"].takes_rows(layout, q, spec, 0.0)
        assert not kernel.takes_rows(layout, q, spec, 0.1)
        assert not fits(layout, q.half(), spec, 0.0)
        assert not fits(layout, q, odd, 0.0)
        assert fits(layout, q, causal, 0.0)
        assert not fits(layout, q, replace(causal, softcap=30.0), 0.0)
        assert not fits(layout, q, replace(causal, written_out=True), 0.0)
        assert not fits(hidden, q, spec, 0.0)
    with torch.no_grad():
        assert not fits(layout, q, spec, 0.0)


def codes_of(x: Tensor, *, up: bool) -> Tensor:
    """Rows as the C code rounds them; weights to the nearest, ties to even."""
    scale = x.abs().amax(1, keepdim=True) / 127
    return ((x / scale + 0.5).floor() if up else (x / scale).round()).double() * scale


@pytest.mark.parametrize(("inputs", "outputs"), [(64, 96), (37, 21), (3, 1), (16, 64)])
@pytest.mark.parametrize("rows", [1, 7, 200])
def test_products_of_codes(inputs: int, outputs: int, rows: int) -> None:
    generator = torch.Generator().manual_seed(inputs)
    weight, bias = torch.randn(outputs, inputs, generator=generator), torch.randn(outputs)
    x = torch.randn(rows, inputs, generator=generator)
    x[0] = 0
    linear = Int8Linear(weight, bias)
    with torch.inference_mode():
        found = linear(x)
    scale = x.abs().amax(1, keepdim=True).clamp_min(1e-30) / 127
    codes = (x * (1 / scale) + 128.5).floor() - 128
    truth = (codes.double() * scale) @ codes_of(weight, up=False).T + bias
    near = (found - truth).abs() <= 1e-5 * truth.abs().max()
    assert near.float().mean() >= 0.99  # a code that falls between two may be rounded to either
    exact = x.double() @ weight.double().T + bias
    assert (found - exact).abs().max() <= 0.03 * max(1.0, float(exact.abs().max()))


def test_an_mlp_in_one_call() -> None:
    mlp = MLP(MLPConfig(hidden_size=40, intermediate_size=112, act="gelu"))
    generator = torch.Generator().manual_seed(0)
    for linear in (mlp.up_proj, mlp.down_proj):
        linear.weight = torch.nn.Parameter(torch.randn(linear.weight.shape, generator=generator) * 0.2)
        linear.bias = torch.nn.Parameter(torch.randn(linear.bias.shape, generator=generator))
    x = torch.randn(150, 40, generator=generator)
    with torch.inference_mode():
        truth = mlp(x)
    layers = torch.nn.ModuleList([mlp])
    assert to_int8(layers) == 2
    one = layers[0]
    assert isinstance(one, Int8MLP)
    with torch.inference_mode():
        found = one(x)
        apart = one.down_proj(one.up_proj(x))
    assert torch.equal(found, apart)
    assert (found - truth).norm() <= 0.02 * truth.norm()
    assert not list(layers.parameters())
    with pytest.raises(BijectError, match="no gradients"):
        one(x.requires_grad_())


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    build.rows_library.cache_clear()
    layout = packed()
    try:
        with torch.inference_mode():
            assert not fits(layout, torch.zeros(layout.num_tokens, 32), spec_of(2, 2, 16, None), 0.0)
            assert activate("silu", torch.zeros(2, 16)) is None
        with pytest.raises(BijectError, match="C compiler"):
            to_int8(torch.nn.ModuleList([Linear(4, 4)]))
    finally:
        build.rows_library.cache_clear()
    monkeypatch.undo()
    with pytest.raises(BijectError, match="no linear"):
        to_int8(torch.nn.ModuleList())
