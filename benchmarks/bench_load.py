"""`from_pretrained` of a 440 MB BERT-base: Biject against transformers, in one process, alternating."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from transformers import BertConfig, BertModel
from transformers.utils import logging

import biject

RUNS = 7
TARGET = 5.0


def seconds(load: Callable[[], Any]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    load()
    return time.perf_counter() - started


def resident_bytes() -> int:
    """Memory of this process that is its own (`RssAnon`), without mapped files."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    return 0


def main() -> int:
    """Print both medians, their ratio and the memory that a load takes; 1 where the target is missed."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "bert-base"
        torch.manual_seed(0)
        BertModel(BertConfig()).save_pretrained(folder)
        size = (folder / "model.safetensors").stat().st_size

        def ours() -> Any:
            return biject.AutoModel.from_pretrained(folder)

        def theirs() -> Any:
            return BertModel.from_pretrained(folder)

        ours(), theirs()
        times = [(seconds(ours), seconds(theirs)) for _ in range(RUNS)]
        before = resident_bytes()
        model = ours()
        taken = resident_bytes() - before
        del model
    mine, other = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"{size / 1e6:.0f} MB, {torch.get_num_threads()} threads, medians of {RUNS}, alternating")
    print(f"biject       {mine * 1e3:8.1f} ms   memory until touched {taken / 1e6:.1f} MB")
    print(f"transformers {other * 1e3:8.1f} ms")
    print(f"ratio {other / mine:.1f} (target {TARGET:.0f})")
    return 0 if other / mine >= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
