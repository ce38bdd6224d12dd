"""The kernel table is complete, and FlashAttention over texts of any length is called as documented."""

from __future__ import annotations

import itertools
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from biject.nn import kernels
from biject.nn.kernels import TABLE, Numerics, Operation, grouped, grouped_math, kernel, keys_to_16, varlen
from biject.nn.layout import Packed, Padded
from biject.nn.packing import pack, spans

HEADS, EACH = 2, 8


def test_the_table_names_every_operation_and_numerics_on_the_cpu() -> None:
    for operation, numerics in itertools.product(get_args(Operation), get_args(Numerics)):
        assert (operation, "cpu", numerics) in TABLE
        for device in ("cpu", "cuda", "mps"):
            found = kernel(operation, torch.device(device), numerics)
            assert found.operation == operation
            assert found.bound
            assert (found.attend is not None) == (operation == "attention")
            assert [found.keys(tokens, 700) >= tokens for tokens in (1, 17, 177, 600, 700)] == [True] * 5
            assert found.keys(700, 700) == 700


def packed(counts: list[int], *, fill: int = 0) -> tuple[Packed, Tensor]:
    mask = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
    return pack(mask, spans(mask), keys_to_16, num_rows=fill), mask


def rows(layout: Packed, dtype: torch.dtype = torch.bfloat16) -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(layout.num_rows, HEADS * EACH, generator=draw).to(dtype) for _ in range(3)]


def reference_varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    **options: Any,
) -> Tensor:
    """What `torch.nn.attention.varlen.varlen_attn` promises: (T, H, E) in and out, each text by itself.

    Source: the docstring of torch 2.13.
    """
    assert set(options) == {"scale"}
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    assert query.dim() == 3
    assert query.dtype in (torch.float16, torch.bfloat16)
    assert max_q == max_k == int((cu_seq_q[1:] - cu_seq_q[:-1]).max())
    assert int(cu_seq_q[-1]) == query.shape[0]
    out = torch.empty_like(query)
    for start, stop in itertools.pairwise(cu_seq_q.tolist()):
        q, k, v = (x[start:stop].transpose(0, 1).float() for x in (query, key, value))
        found = F.scaled_dot_product_attention(q, k, v, scale=options["scale"])
        out[start:stop] = found.transpose(0, 1).to(out.dtype)
    return out


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The documented function in the place of the device's; how often it is called."""
    import torch.nn.attention.varlen as module

    found: list[int] = []

    def watched(*arguments: Any, **options: Any) -> Tensor:
        found.append(1)
        return reference_varlen(*arguments, **options)

    monkeypatch.setattr(module, "varlen_attn", watched)
    return found


def test_the_reference_has_the_signature_of_torch() -> None:
    import inspect

    from torch.nn.attention.varlen import varlen_attn

    theirs = inspect.signature(varlen_attn).parameters
    mine = [name for name in inspect.signature(reference_varlen).parameters if name != "options"]
    assert list(theirs)[: len(mine)] == mine
    assert "scale" in theirs


def test_varlen_is_grouped_attention(calls: list[int]) -> None:
    layout, _ = packed([20, 3, 17, 9])
    q, k, v = rows(layout)
    found = varlen(q, k, v, layout, HEADS, 0.3, 0.0)
    expected = grouped(q, k, v, layout, HEADS, 0.3, 0.0)
    torch.testing.assert_close(found, expected, rtol=2**-7, atol=2**-8)  # bfloat16 has 8 bits
    assert found.shape == q.shape
    assert calls == [1]


def test_varlen_leaves_what_it_cannot_do(calls: list[int]) -> None:
    """Dropout, float32, rows that fill up, masked columns and HF's grid are done in groups."""
    layout, mask = packed([20, 3, 17, 9])
    q, k, v = rows(layout, torch.float32)
    assert torch.equal(varlen(q, k, v, layout, HEADS, 0.3, 0.0), grouped(q, k, v, layout, HEADS, 0.3, 0.0))
    filled, _ = packed([20, 3, 17, 9], fill=64)
    q, k, v = rows(filled)
    assert torch.equal(varlen(q, k, v, filled, HEADS, 0.3, 0.0), grouped(q, k, v, filled, HEADS, 0.3, 0.0))
    mask[0, 4] = False
    holes = pack(mask, spans(mask), keys_to_16)
    q, k, v = rows(holes)
    assert torch.equal(varlen(q, k, v, holes, HEADS, 0.3, 0.0), grouped(q, k, v, holes, HEADS, 0.3, 0.0))
    grid = Padded(batch=4, length=20, mask_BL=mask)
    x = torch.randn(80, HEADS * EACH).to(torch.bfloat16)
    assert torch.equal(varlen(x, x, x, grid, HEADS, 0.3, 0.0), grouped(x, x, x, grid, HEADS, 0.3, 0.0))
    q, k, v = rows(layout)
    torch.manual_seed(0)
    expected = grouped(q, k, v, layout, HEADS, 0.3, 0.5)
    torch.manual_seed(0)
    assert torch.equal(varlen(q, k, v, layout, HEADS, 0.3, 0.5), expected)
    assert calls == []


def test_the_unfused_kernel_agrees() -> None:
    layout, _ = packed([20, 3, 17, 9])
    q, k, v = rows(layout, torch.float32)
    torch.testing.assert_close(
        grouped_math(q, k, v, layout, HEADS, 0.3, 0.0), kernels.grouped(q, k, v, layout, HEADS, 0.3, 0.0)
    )
