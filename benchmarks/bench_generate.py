"""`generate` with GPT-2 small: Biject against transformers, in one process per thread count, alternating.

`--quick` for fewer runs; `--threads 1 --dtype float32` for one cell. Peak memory: how far the resident set
grows while a batch is generated, beside the bytes of its keys and values.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch

PROMPT, NEW = 16, 32
MEMORY_BATCH, MEMORY_NEW = 32, 64
TARGET = 1.0
NOISE = 0.05
"""How much slower a median ratio may come out where both sides do the same, on a machine that is not idle."""


def seconds(call: Callable[[], Any]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def peak_growth(call: Callable[[], Any]) -> int:
    """By how many bytes the resident set grew at most during `call`."""

    def status(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

    Path("/proc/self/clear_refs").write_text("5")  # the peak is the present
    before = status("VmRSS")
    call()
    return status("VmHWM") - before


def cell(dtype: str, threads: int, runs: int) -> bool:
    """Measure one cell of the table; True if the target is met."""
    import transformers

    import biject
    from biject.nn.kv_cache import KVCache

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as temporary:
        torch.manual_seed(0)
        config = transformers.GPT2Config()
        theirs = transformers.GPT2LMHeadModel(config).to(getattr(torch, dtype)).eval()
        theirs.save_pretrained(temporary)
        ours = biject.AutoModelForCausalLM.from_pretrained(temporary)
        ids = torch.randint(0, 50000, (1, PROMPT))
        few = {"max_new_tokens": NEW, "min_new_tokens": NEW}
        mask = torch.ones_like(ids)
        same = torch.equal(ours.generate(ids, mask, **few), theirs.generate(ids, attention_mask=mask, **few))
        pairs = []
        for run in range(runs):
            calls = [
                lambda: ours.generate(ids, mask, **few),
                lambda: theirs.generate(ids, attention_mask=mask, **few),
            ]
            order = (0, 1) if run % 2 == 0 else (1, 0)
            times = {index: seconds(calls[index]) for index in order}
            pairs.append((times[0], times[1]))
        wide = torch.randint(0, 50000, (MEMORY_BATCH, PROMPT))
        many = {"max_new_tokens": MEMORY_NEW, "min_new_tokens": MEMORY_NEW}
        place = torch.device("cpu")
        cache = KVCache(
            ours.attentions,
            batch=MEMORY_BATCH,
            length=PROMPT + MEMORY_NEW - 1,
            dtype=theirs.dtype,
            device=place,
        ).num_bytes
        ours.generate(wide, torch.ones_like(wide), max_new_tokens=2)
        grown = peak_growth(lambda: ours.generate(wide, torch.ones_like(wide), **many))
        theirs_grown = peak_growth(
            lambda: theirs.generate(wide, attention_mask=torch.ones_like(wide), **many)
        )
    ratios = [hf / mine for mine, hf in pairs]
    mine, hf = (statistics.median(column) * 1000 / NEW for column in zip(*pairs, strict=True))
    ratio = statistics.median(ratios)
    print(
        f"{dtype:9} {threads} thread{'s' if threads > 1 else ' '}  {mine:6.1f} ms/token, "
        f"transformers {hf:6.1f}; median ratio {ratio:.2f} (from {min(ratios):.2f} to {max(ratios):.2f}, "
        f"{runs} pairs); {'same tokens' if same else 'TOKENS DIFFER'}; memory +{grown / 2**20:.0f} MiB for "
        f"a cache of {cache / 2**20:.0f} MiB (transformers +{theirs_grown / 2**20:.0f})",
        flush=True,
    )
    return ratio >= TARGET - NOISE and (same or dtype != "float32")


def main() -> int:
    """Print every cell; 1 where one is slower than transformers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"))
    chosen = parser.parse_args()
    if chosen.threads and chosen.dtype:
        return 0 if cell(chosen.dtype, chosen.threads, 5 if chosen.quick else 15) else 1
    worst = 0
    for threads in (chosen.threads,) if chosen.threads else (1, 2):
        for dtype in (chosen.dtype,) if chosen.dtype else ("float32", "bfloat16"):
            command = [sys.executable, __file__, "--threads", str(threads), "--dtype", dtype]
            worst |= subprocess.run(command + ["--quick"] * chosen.quick, check=False).returncode
    return worst


if __name__ == "__main__":
    sys.exit(main())
