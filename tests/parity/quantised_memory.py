"""Loads a checkpoint in few bits and prints, in bytes, what the process holds of its own while it does.

Run by test_quantised_memory.py: FOLDER METHOD DTYPE [hoard] [map]. `hoard` keeps every tensor that was read,
`map` the file's pages: the faults that the test has to see.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import torch

from biject.checkpoint.reader import Reader
from biject.nn.quantised import QuantisedLinear, bitsandbytes
from biject.pretrained import load


def anonymous() -> int:
    """Memory that is no mapped file."""
    return resident("RssAnon")


def resident(name: str = "VmRSS") -> int:
    """Memory that is the process's own, or mapped and touched; `VmHWM`: its peak as the kernel counts it."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(name))
    return int(line.split()[1]) * 1024


def main(folder: str, method: str, dtype: str, *faults: str) -> None:
    bitsandbytes().functional.quantize_4bit(torch.randn(256, 256))  # libraries and pools are there before
    load(folder, head="causal")  # and what is imported on the way; its tensors stay in the file
    peak, stop = [0], threading.Event()

    def watch() -> None:
        while not stop.is_set():
            peak[0] = max(peak[0], anonymous())
            time.sleep(0.0005)

    kept = []
    if "hoard" in faults:
        for kind in QuantisedLinear.__subclasses__():
            original = kind.quantise

            def quantise(self, tensor, original=original, **options) -> None:  # type: ignore[no-untyped-def]
                kept.append(tensor.to(options["dtype"], copy=True))
                original(self, tensor, **options)

            kind.quantise = quantise
    if "map" in faults:
        Reader.forget = lambda self, name: None  # type: ignore[method-assign]
    before, all_before = anonymous(), resident()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    watcher = threading.Thread(target=watch)
    watcher.start()
    model = load(folder, head="causal", quantization=method, dtype=dtype)
    stop.set()
    watcher.join()
    linears = [module for module in model.modules() if isinstance(module, QuantisedLinear)]
    tensors = [t for module in linears for t in (*module.parameters(), *module.buffers())]
    codes = sum(t.numel() * t.element_size() for t in tensors)
    others = {id(p): p.numel() * p.element_size() for p in model.parameters()}
    size = getattr(torch, dtype).itemsize if dtype != "auto" else model.file_dtype.itemsize
    print(
        json.dumps(
            {
                "peak": max(peak[0], anonymous()) - before,
                "resident": resident("VmHWM") - all_before,
                "codes": codes,
                "model": codes + sum(others.values()) - sum(m.weight.nbytes for m in linears),
                "largest": max(module.in_features * module.out_features for module in linears) * size,
                "plain": model.num_parameters() * size,
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
