"""The kernel table is complete, and FlashAttention over texts of any length is called as documented."""

from __future__ import annotations

import itertools
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from biject.config.layers import AttentionSpec
from biject.nn.attend import attend_math
from biject.nn.kernels import TABLE, Kernel, Numerics, Operation, kernel, keys_to_16, varlen
from biject.nn.layout import Packed, Padded
from biject.nn.packing import pack, spans

from .grouping import grouped, spec_of

HEADS, EACH = 2, 8


def test_the_table_names_every_operation_and_numerics_on_each_device() -> None:
    for operation, numerics in itertools.product(get_args(Operation), get_args(Numerics)):
        assert (operation, "cpu", numerics) in TABLE
        assert (operation, "cuda", numerics) in TABLE
        for device in ("cpu", "cuda", "mps"):
            found = kernel(operation, torch.device(device), numerics)
            assert found.operation == operation
            assert found.bound
            flash = (
                device == "cuda"
                and numerics == "fast"
                and operation not in ("written-out attention", "attention by steps")
            )
            assert (found.attend_rows is varlen) == flash
            assert len({rule(700, 700) for rule in (found.keys, *found.other_keys)}) == 1
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
    """What `torch.nn.attention.varlen.varlen_attn` promises: (T, H, E) in and out, each text by itself;
    windows as (left, right), -1 for all; keys shared by groups of heads where `enable_gqa` says so.

    Source: the docstring of torch 2.13.
    """
    assert set(options) == {"scale", "window_size", "enable_gqa"}
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    assert query.dim() == 3
    assert query.dtype in (torch.float16, torch.bfloat16)
    assert max_q == max_k == int((cu_seq_q[1:] - cu_seq_q[:-1]).max())
    assert int(cu_seq_q[-1]) == query.shape[0]
    assert options["enable_gqa"] or query.shape[1] == key.shape[1]
    out, (left, right) = torch.empty_like(query), options["window_size"]
    for start, stop in itertools.pairwise(cu_seq_q.tolist()):
        q, k, v = (x[start:stop].transpose(0, 1).float() for x in (query, key, value))
        k, v = (x.repeat_interleave(q.shape[0] // x.shape[0], dim=0) for x in (k, v))
        at = torch.arange(stop - start)
        behind = at[:, None] - at[None, :]
        seen = ((behind <= left) | (left < 0)) & ((-behind <= right) | (right < 0))
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=options["scale"])
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
    assert {"scale", "window_size", "enable_gqa"} <= set(theirs)


SPECS = {
    "all": spec_of(HEADS, HEADS * EACH),
    "window": spec_of(HEADS, HEADS * EACH, window=4),
    "causal": spec_of(HEADS, HEADS * EACH, causal=True),
    "causal window": spec_of(HEADS, HEADS * EACH, causal=True, window=5),
    "shared keys": spec_of(4 * HEADS, 4 * HEADS * EACH, groups=HEADS, causal=True),
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_varlen_is_attention_in_buckets(spec: AttentionSpec, calls: list[int]) -> None:
    layout, _ = packed([20, 3, 17, 9])
    draw = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randn(layout.num_rows, heads * EACH, generator=draw).to(torch.bfloat16)
        for heads in (spec.num_heads, spec.num_key_value_heads, spec.num_key_value_heads)
    )
    found = varlen(*(x.view(x.shape[0], -1, EACH) for x in (q, k, v)), layout, spec)
    expected = grouped(q, k, v, layout, spec)
    torch.testing.assert_close(found, expected, rtol=2**-7, atol=2**-7)  # bfloat16 has 8 bits
    assert found.shape == q.shape
    assert calls == [1]


def test_windows_as_flash_attention_counts_them() -> None:
    assert SPECS["all"].sees == (-1, -1)
    assert SPECS["window"].sees == (4, 4)
    assert SPECS["causal"].sees == (-1, 0)
    assert SPECS["causal window"].sees == (4, 0)


def test_what_varlen_cannot_do_is_done_in_buckets() -> None:
    """Dropout, float32, rows that fill up, masked columns and HF's grid."""
    flash: Kernel = TABLE["attention", "cuda", "fast"]
    layout, mask = packed([20, 3, 17, 9])
    q = rows(layout)[0]
    assert flash.takes_rows(layout, q, SPECS["all"], 0.0)
    assert not flash.takes_rows(layout, q, SPECS["all"], 0.5)
    assert not flash.takes_rows(layout, q.float(), SPECS["all"], 0.0)
    assert not flash.takes_rows(packed([20, 3, 17, 9], fill=64)[0], q, SPECS["all"], 0.0)
    mask[0, 4] = False
    assert not flash.takes_rows(pack(mask, spans(mask), keys_to_16), q, SPECS["all"], 0.0)
    assert not flash.takes_rows(Padded(batch=4, length=20, mask_BL=mask), q, SPECS["all"], 0.0)
    assert not TABLE["attention", "cpu", "exact"].takes_rows(layout, q, SPECS["all"], 0.0)


def test_the_unfused_kernel_agrees() -> None:
    layout, _ = packed([20, 3, 17, 9])
    q, k, v = rows(layout, torch.float32)
    spec = SPECS["window"]
    torch.testing.assert_close(
        grouped(q, k, v, layout, spec, kernel=attend_math), grouped(q, k, v, layout, spec)
    )
