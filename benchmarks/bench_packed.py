"""Packed against HF with dynamic padding: BERT-base, random weights, inference and one training step.

`python benchmarks/bench_packed.py [--repeats 5] [--threads 2] [--size base|minilm]`: the same batches in the
same order on both sides, alternating; medians of the ratios of neighbouring runs, with their spread. The
training step has dropout on and includes AdamW (fused) and zeroing of gradients, without clipping.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from torch import Tensor

from biject.pretrained import load

SIZES = {
    "base": {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
    },
    "minilm": {
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
    },
}
# Sixteen texts of 11 to 82 tokens: padded/real 3.1. Eight of equal length: 1.0.
MIXED = (82, 11, 12, 13, 14, 15, 17, 18, 20, 22, 24, 26, 30, 34, 39, 46)
EQUAL = (64,) * 8


def batch(lengths: tuple[int, ...], seed: int) -> dict[str, Tensor]:
    """Random ids, padded to the longest, with labels."""
    draw = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(lengths), generator=draw).tolist()
    longest = max(lengths)
    mask = torch.zeros(len(lengths), longest, dtype=torch.long)
    for row, place in enumerate(order):
        mask[row, : lengths[place]] = 1
    ids = torch.randint(1000, 30000, mask.shape, generator=draw) * mask
    labels = torch.randint(0, 2, (len(lengths),), generator=draw)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def inference(model: Any, batches: list[dict[str, Tensor]]) -> Callable[[], None]:
    """Forward passes without gradients."""

    def run() -> None:
        model.eval()
        with torch.inference_mode():
            for inputs in batches:
                model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])

    return run


def training(model: Any, batches: list[dict[str, Tensor]]) -> Callable[[], None]:
    """Whole steps: forward, backward, AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def run() -> None:
        model.train()
        for inputs in batches:
            model(**inputs).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return run


def compare(name: str, theirs: Callable[[], None], ours: Callable[[], None], repeats: int) -> None:
    """Alternate; print the median ratio and its spread."""
    theirs(), ours()
    ratios, seconds = [], []
    for _ in range(repeats):
        times = []
        for run in (theirs, ours):
            started = time.perf_counter()
            run()
            times.append(time.perf_counter() - started)
        ratios.append(times[0] / times[1])
        seconds.append(times)
    hf, biject = (statistics.median(column) for column in zip(*seconds, strict=True))
    print(
        f"{name:<34} {statistics.median(ratios):.2f}x ({min(ratios):.2f}–{max(ratios):.2f})   "
        f"HF {hf:.3f} s, Biject {biject:.3f} s",
        flush=True,
    )


def main() -> None:
    """Print one line a case."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--size", choices=SIZES, default="base")
    parser.add_argument("--batches", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    config = transformers.BertConfig(**SIZES[given.size])
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        transformers.BertForSequenceClassification(config).save_pretrained(Path(folder) / "m")
        theirs: Any = transformers.BertForSequenceClassification.from_pretrained(Path(folder) / "m")
        ours = load(Path(folder) / "m")
        for lengths in (MIXED, EQUAL):
            batches = [batch(lengths, seed) for seed in range(given.batches)]
            real = sum(lengths) * given.batches
            padded = max(lengths) * len(lengths) * given.batches
            print(
                f"{given.size}, {given.threads} threads, {len(lengths)} texts of "
                f"{min(lengths)}–{max(lengths)} tokens, padded/real {padded / real:.2f}"
            )
            with torch.no_grad():
                inputs = {name: batches[0][name] for name in ("input_ids", "attention_mask")}
                a, b = ours.eval()(**inputs).logits, theirs.eval()(**inputs).logits
            print(f"max abs diff of logits {(a - b).abs().max().item():g}")
            compare("inference", inference(theirs, batches), inference(ours, batches), given.repeats)
            compare(
                "training step with AdamW", training(theirs, batches), training(ours, batches), given.repeats
            )
            ours.load_state_dict(load(Path(folder) / "m").state_dict())
            theirs = transformers.BertForSequenceClassification.from_pretrained(Path(folder) / "m")


if __name__ == "__main__":
    main()
