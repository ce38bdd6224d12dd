"""Print what this machine's CPU kernels do to a row's bits, shape by shape: the tables of docs/packing.md.

`python scripts/sweep_kernels.py [--threads N] [--dtype float32] [--rows 1536] [--quick]`; other kernels by
environment, e.g. `MKL_ENABLE_INSTRUCTIONS=AVX2 ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2`. Minutes.
"""

from __future__ import annotations

import argparse
import os
import random

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
import torch.nn.functional as F
from torch import Tensor

from biject.nn.activations import activation
from biject.nn.kernels import keys_by_block, keys_or_all, keys_to_16
from biject.nn.probe.attention import fused, written_out

LINEARS = (
    *((64, 64), (64, 128), (256, 1024), (384, 384), (384, 1536), (1536, 384), (768, 768), (768, 3072)),
    *((3072, 768), (1024, 1024), (37, 53), (100, 37), (768, 9), (768, 2), (768, 1)),
)
ACTIVATIONS = ("gelu", "relu", "tanh", "gelu_new", "gelu_pytorch_tanh", "silu", "sigmoid", "mish")
WIDTHS = (37, 64, 100, 768, 3072)


def main() -> None:
    """Run every sweep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rows", type=int, default=1536)
    parser.add_argument("--quick", action="store_true", help="every 23rd row count beyond 128, few trials")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    dtype: torch.dtype = getattr(torch, given.dtype)
    level = torch.backends.cpu.get_cpu_capability()
    print(f"torch {torch.__version__}, {level}, {given.threads} threads, {dtype}")
    with torch.no_grad():
        linears(given.rows, dtype, step=23 if given.quick else 1)
        attention(dtype, trials=40 if given.quick else 300)
        query_rows(dtype)
        convolution(dtype)
        activations(dtype)


def linears(most: int, dtype: torch.dtype, *, step: int) -> None:
    """Runs of row counts with equal bits, in the order of the counts."""
    print("\nLinear: runs of row counts that give a row the same bits (from 1 row on)")
    counts = [*range(1, min(129, most)), *range(129, most + 1, step)]
    for inputs, outputs in LINEARS:
        draw = torch.Generator().manual_seed(0)
        x = torch.randn(most, inputs, generator=draw).to(dtype)
        weight = (torch.randn(outputs, inputs, generator=draw) / inputs**0.5).to(dtype)
        bias = torch.randn(outputs, generator=draw).to(dtype)
        runs: list[list[int]] = []
        before: Tensor | None = None
        for count in counts:
            here = F.linear(x[most - count :].clone(), weight, bias)
            if before is None or not torch.equal(before, here[-len(before) :]):
                runs.append([count, count])
            runs[-1][1] = count
            before = here
        words = ", ".join(f"{a}-{b}" for a, b in runs[-4:])
        more = f"{len(runs) - 4} shorter ones, then " if len(runs) > 4 else ""
        print(f"  {inputs:5} -> {outputs:5}   {more}{words}", flush=True)


def attention(dtype: torch.dtype, *, trials: int) -> None:
    """How often attention over fewer key columns differs from that over the grid's."""
    print("\nAttention: calls whose bits differ from the grid's, by key rule and length of the text")
    kernels = (("SDPA", fused), ("written out", written_out))
    for name, attend in kernels:
        for rule in (keys_to_16, keys_by_block, keys_or_all):
            found = []
            for low, high in ((1, 176), (177, 512), (513, 1100)):
                chance, wrong, few = random.Random(0), 0, trials if high < 600 else trials // 5
                for trial in range(few):
                    tokens = chance.randint(low, high)
                    length = tokens + chance.randint(1, 300)
                    width = chance.choice((8, 16, 32, 64, 128))
                    draw = torch.Generator().manual_seed(trial)
                    q, k, v = (torch.randn(1, length, 2, width, generator=draw).to(dtype) for _ in range(3))
                    wrong += differs(
                        attend, q, k, v, tokens, min(length, -(-tokens // 16) * 16), rule(tokens, length)
                    )
                found.append(f"{low}-{high}: {wrong} of {few}")
            print(f"  {name:12} {rule.__name__:14} {';  '.join(found)}", flush=True)


def query_rows(dtype: torch.dtype) -> None:
    """How many query rows a call needs."""
    print("\nAttention: query rows of a call, calls of 60 whose bits differ from those of all rows")
    for name, attend in (("SDPA", fused), ("written out", written_out)):
        found = []
        for rows in (1, 2, 4, 8, 16, 32):
            wrong = 0
            for trial in range(60):
                draw = torch.Generator().manual_seed(trial)
                length = 33 + 7 * trial % 400
                q, k, v = (
                    torch.randn(1, length, 2, (16, 64, 128)[trial % 3], generator=draw).to(dtype)
                    for _ in range(3)
                )
                wrong += differs(attend, q, k, v, rows, rows, length)
            found.append(f"{rows}: {wrong}")
        print(f"  {name:12} {',  '.join(found)}")


def differs(attend: object, q: Tensor, k: Tensor, v: Tensor, tokens: int, queries: int, keys: int) -> bool:
    """Whether `tokens` queries have other bits among `queries` rows and `keys` columns than in the grid.

    With all key columns nothing is masked; otherwise those from `tokens` on are.
    """
    length = q.shape[1]
    real = torch.arange(length)[None, None, None] < (tokens if keys < length or queries > tokens else length)
    assert callable(attend)
    whole = attend(*(x.transpose(1, 2) for x in (q, k, v)), real.expand(1, 1, length, length))
    part = [x[:, :n].contiguous().transpose(1, 2) for x, n in ((q, queries), (k, keys), (v, keys))]
    few = attend(*part, real[..., :keys].expand(1, 1, queries, keys))
    return not torch.equal(few[:, :, :tokens], whole[:, :, :tokens])


def convolution(dtype: torch.dtype) -> None:
    """Conv1d over a text alone, padded with zeros in the grid."""
    print(
        "\nConv1d (kernel 3): texts of 60 whose bits differ from the grid's when computed at their own length"
    )
    for width in (64, 256):
        conv, wrong = torch.nn.Conv1d(width, width, 3, padding=1).to(dtype), 0
        for trial in range(60):
            x = torch.zeros(4, width, 120, dtype=dtype)
            tokens = 2 + trial
            x[0, :, :tokens] = torch.randn(width, tokens).to(dtype)
            wrong += not torch.equal(conv(x[:1, :, :tokens].clone())[0], conv(x)[0, :, :tokens])
        print(f"  width {width}: {wrong}")


def activations(dtype: torch.dtype) -> None:
    """Which give a row the same bits in every place."""
    print("\nActivations and norm: widths at which a row's bits depend on its place or company")
    functions = [(name, activation(name)) for name in ACTIVATIONS]
    for name, function in [*functions, ("layer_norm", lambda x: F.layer_norm(x, (x.shape[-1],)))]:
        found = []
        for width in WIDTHS:
            x = torch.randn(1031, width, generator=torch.Generator().manual_seed(0)).to(dtype)
            whole = function(x)
            pieces = ((at, count) for at in (0, 1, 5, 100) for count in (1, 16, 17, 63, 777))
            if not all(torch.equal(function(x[a : a + n].clone()), whole[a : a + n]) for a, n in pieces):
                found.append(str(width))
        print(f"  {name:18} {', '.join(found) or 'none'}")


if __name__ == "__main__":
    main()
