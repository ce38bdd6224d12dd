"""The table that `verify` prints: in about a second, which of this machine's CPU kernels keep a row's bits.

It informs; what a model may skip is decided by questions of its own shapes (`nn/exact.py`).
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_WIDTHS = ((64, 64), (384, 1536), (768, 768), (768, 9), (37, 53))


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What held on this machine, in float32. True: the same bits in every trial.

    Attributes:
        cpu_capability: torch's dispatch level, e.g. `AVX512`.
        threads: Threads of the process when it was measured.
        linear_rows_below_16: A linear gives a row the same bits whatever the number of rows, when under 16.
        linear_rows_from_16: The same for 16 rows and more.
        linear_odd_outputs: The same from 16 rows on, at 9 outputs and at odd widths.
        attention_keys_to_16: SDPA gives the same bits when key columns are masked up to a multiple of 16
            (below 192).
        attention_keys_any: The same for lengths of 192 and more, up to the next multiple of 512 at most.
        attention_queries: A query row of SDPA has the same bits in a call of 4 queries and more.
        attention_batch: A sequence has the same bits alone and in a batch, in SDPA.
        activations_odd_width: GELU, tanh-GELU and SiLU give a row the same bits alone at an odd width.
        norm_rows: LayerNorm gives a row the same bits whatever the other rows.
        seconds: What the measuring took.
    """

    cpu_capability: str
    threads: int
    linear_rows_below_16: bool
    linear_rows_from_16: bool
    linear_odd_outputs: bool
    attention_keys_to_16: bool
    attention_keys_any: bool
    attention_queries: bool
    attention_batch: bool
    activations_odd_width: bool
    norm_rows: bool
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for reports."""
        return asdict(self)


@functools.cache
def probe() -> Probe:
    """Measure, once a process. Leaves the global random state as it was."""
    started = time.perf_counter()
    draw = torch.Generator().manual_seed(0)
    wide = [pair for pair in _WIDTHS if pair[0] % 16 == 0 and pair[1] % 16 == 0]
    odd = [pair for pair in _WIDTHS if pair not in wide]
    with torch.no_grad():
        return Probe(
            cpu_capability=str(torch.backends.cpu.get_cpu_capability()),
            threads=torch.get_num_threads(),
            linear_rows_below_16=all(_linear(draw, pair, (1, 2, 3, 5, 8, 13)) for pair in wide),
            linear_rows_from_16=all(_linear(draw, pair, (16, 17, 24, 32, 48, 63)) for pair in wide),
            linear_odd_outputs=all(_linear(draw, pair, (16, 17, 32, 48)) for pair in odd),
            attention_keys_to_16=all(_key_padding(draw, keys, 16) for keys in (11, 16, 37, 82, 150, 176)),
            attention_keys_any=all(_key_padding(draw, keys, 512) for keys in (192, 250, 400)),
            attention_queries=all(_query_rows(draw, count) for count in (4, 7, 16, 33)),
            attention_batch=all(_batch(draw, length) for length in (1, 5, 16, 47)),
            activations_odd_width=all(_rowwise(draw, kernel) for kernel in _activations()),
            norm_rows=_rowwise(draw, lambda x: functional.layer_norm(x, (x.shape[-1],))),
            seconds=round(time.perf_counter() - started, 3),
        )


def _linear(draw: torch.Generator, widths: tuple[int, int], counts: tuple[int, ...]) -> bool:
    inputs, outputs = widths
    rows = torch.randn(96, inputs, generator=draw)
    weight = torch.randn(outputs, inputs, generator=draw) / inputs**0.5
    bias = torch.randn(outputs, generator=draw)
    whole = functional.linear(rows, weight, bias)
    return all(torch.equal(functional.linear(rows[:count], weight, bias), whole[:count]) for count in counts)


def _qkv(draw: torch.Generator, batch: int, queries: int, keys: int) -> tuple[Tensor, Tensor, Tensor]:
    def heads(length: int) -> Tensor:
        return torch.randn(batch, 4, length, 32, generator=draw)

    return heads(queries), heads(keys), heads(keys)


def _key_padding(draw: torch.Generator, keys: int, multiple: int) -> bool:
    """Attention over `keys` columns padded to a multiple, against the same columns in a longer padded row."""
    short = -(-keys // multiple) * multiple
    long = short + (64 if multiple == 16 else 512)
    q, k, v = _qkv(draw, 2, max(4, min(keys, 64)), long)
    mask = torch.zeros(2, 1, 1, long, dtype=torch.bool)
    mask[..., :keys] = True
    whole = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    part = functional.scaled_dot_product_attention(
        q, k[:, :, :short], v[:, :, :short], attn_mask=mask[..., :short]
    )
    return torch.equal(whole, part)


def _query_rows(draw: torch.Generator, count: int) -> bool:
    q, k, v = _qkv(draw, 2, 64, 64)
    whole = functional.scaled_dot_product_attention(q, k, v)
    return torch.equal(functional.scaled_dot_product_attention(q[:, :, :count], k, v), whole[:, :, :count])


def _batch(draw: torch.Generator, length: int) -> bool:
    q, k, v = _qkv(draw, 3, length, length)
    whole = functional.scaled_dot_product_attention(q, k, v)
    rows = [
        functional.scaled_dot_product_attention(q[i : i + 1], k[i : i + 1], v[i : i + 1]) for i in range(3)
    ]
    return torch.equal(torch.cat(rows), whole)


def _activations() -> tuple[Callable[[Tensor], Tensor], ...]:
    return (
        functional.gelu,
        lambda x: functional.gelu(x, approximate="tanh"),
        functional.silu,
        torch.tanh,
    )


def _rowwise(draw: torch.Generator, kernel: Callable[[Tensor], Tensor]) -> bool:
    rows = torch.randn(33, 37, generator=draw)
    whole = kernel(rows)
    return all(torch.equal(kernel(rows[i : i + 1].clone()), whole[i : i + 1]) for i in range(len(rows)))
