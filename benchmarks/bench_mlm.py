"""Masked LM over a large vocabulary: forward + backward and peak memory against HF, 8 texts of 128 tokens.

`python benchmarks/bench_mlm.py [--repeats 5] [--threads 2] [--size minilm|base]`: XLM-R with 250,002 tokens,
random weights, 15 % of the tokens labelled, dropout on, no padding. Times alternate in one process; peak
memory is that of a fresh process for each side, above what the loaded model takes.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from bench_packed import compare
from torch import Tensor

from biject.pretrained import load

SIZES = {
    "minilm": {"hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536},
    "base": {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072},
}
VOCABULARY, BATCH, LENGTH, SHARE = 250_002, 8, 128, 0.15


def inputs() -> dict[str, Tensor]:
    """Random ids and labels."""
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(10, VOCABULARY, (BATCH, LENGTH), generator=draw)
    labelled = torch.rand(ids.shape, generator=draw) < SHARE
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.where(labelled, -100)}


def step(model: Any, batch: dict[str, Tensor]) -> None:
    """Forward, backward; gradients are dropped."""
    model.train()
    model(**batch).loss.backward()
    model.zero_grad()


def read(side: str, folder: str) -> Any:
    """The model of one side, every page of it touched."""
    import transformers

    theirs = transformers.XLMRobertaForMaskedLM
    model = load(folder) if side == "biject" else theirs.from_pretrained(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.sum()
    return model


def measure(side: str, folder: str) -> None:
    """Print how far one step raises the peak of this process's memory, in MB."""
    model, batch = read(side, folder), inputs()
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    step(model, batch)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print((peak - before) / 2**20)


def main() -> None:
    """Print one line for time, one for memory."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--size", choices=SIZES, default="minilm")
    parser.add_argument("--measure", nargs=2, metavar=("SIDE", "DIR"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.measure:
        measure(*given.measure)
        return
    batch = inputs()
    labelled = int((batch["labels"] != -100).sum())
    print(
        f"{given.size}, {given.threads} threads, {labelled} of {BATCH * LENGTH} rows labelled, "
        "padded/real 1.00"
    )
    with tempfile.TemporaryDirectory() as folder:
        config = transformers.XLMRobertaConfig(
            vocab_size=VOCABULARY, num_hidden_layers=12, **SIZES[given.size]
        )
        torch.manual_seed(0)
        transformers.XLMRobertaForMaskedLM(config).save_pretrained(folder)
        peaks = {}
        for side in ("transformers", "biject"):
            command = [sys.executable, __file__, "--threads", str(given.threads), "--measure", side, folder]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            peaks[side] = float(done.stdout.split()[-1])
        ratio = peaks["biject"] / peaks["transformers"]
        print(
            f"peak extra memory: Biject {peaks['biject']:.0f} MB, HF {peaks['transformers']:.0f} MB: "
            f"{ratio:.2f}"
        )
        theirs, ours = read("transformers", folder), read("biject", folder)
        compare("forward + backward", lambda: step(theirs, batch), lambda: step(ours, batch), given.repeats)


if __name__ == "__main__":
    main()
