"""`encode` beside sentence-transformers: MiniLM on texts of mixed lengths, one thread, one process, in turns.

`python benchmarks/bench_embed.py [--texts 192] [--most 8] [--pairs 5] [--sides exact,fast,bf16,int8]` needs
MiniLM and the movie snippets (`make demo` fetches both). sentence-transformers runs in its default order (the
longest first, by letters) with its default batch of 32. Each side encodes all texts once before it is timed.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
import torch

from biject.tasks.encoder import EmbeddingModel

ROOT = Path(__file__).resolve().parents[1]
MINILM = ROOT / ".cache" / "real" / "all-MiniLM-L6-v2"
SNIPPETS = ROOT / ".cache" / "real" / "movie-snippets.csv"
BATCH = 32


def mixed(count: int, most: int, seed: int = 0) -> list[str]:
    """One to eight snippets end to end, at most so many: some 5 to 250 tokens, in no order."""
    with SNIPPETS.open(encoding="utf-8", newline="") as file:
        snippets = [row["text"] for row in csv.DictReader(file)]
    rng = random.Random(seed)
    sizes = (min(most, rng.choice((1, 1, 1, 2, 2, 3, 5, 8))) for _ in range(count))
    return [" ".join(rng.sample(snippets, size)) for size in sizes]


def padding(texts: list[str], theirs: Any) -> tuple[float, int]:
    """Tokens that sentence-transformers computes over those of the texts, and these."""
    ordered = sorted(texts, key=lambda text: -len(text))
    padded = real = 0
    for at in range(0, len(ordered), BATCH):
        mask = theirs.preprocess(ordered[at : at + BATCH])["attention_mask"]
        padded, real = padded + mask.numel(), real + int(mask.sum())
    return padded / real, real


def timed(encode: Callable[[list[str]], Any], texts: list[str]) -> float:
    """Seconds of all texts."""
    started = time.perf_counter()
    encode(texts)
    return time.perf_counter() - started


def compare(name: str, ours: EmbeddingModel, theirs: Any, texts: list[str], pairs: int) -> None:
    """Times of both in turns, and how far their vectors are apart."""
    sides = {"ours": ours.encode, "theirs": theirs.encode}
    first = {side: encode(texts) for side, encode in sides.items()}
    apart = float(np.abs(first["ours"] - first["theirs"]).max())
    lengths = np.linalg.norm(first["ours"], axis=1) * np.linalg.norm(first["theirs"], axis=1)
    cosines = (first["ours"] * first["theirs"]).sum(1) / lengths
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for turn in range(pairs):
        for side in sides if turn % 2 == 0 else reversed(sides):
            seconds[side].append(timed(sides[side], texts))
    ratios = sorted(b / a for a, b in zip(seconds["ours"], seconds["theirs"], strict=True))
    best = {side: len(texts) / min(values) for side, values in seconds.items()}
    speeds = f"{best['ours']:6.1f} texts/s beside {best['theirs']:6.1f}"
    spread = f"{statistics.median(ratios):.2f}x ({ratios[0]:.2f} to {ratios[-1]:.2f}, {pairs} pairs)"
    print(
        f"{name:<32} {speeds}: {spread}, vectors {apart:.1e} apart, "
        f"cosines from {cosines.min():.5f}, mean {cosines.mean():.5f}",
        flush=True,
    )


def main() -> None:
    """Print a line a comparison."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts", type=int, default=192)
    parser.add_argument("--most", type=int, default=8, help="snippets in a text; 1 for short texts")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--sides", default="exact,fast,bf16,int8")
    given = parser.parse_args()
    from sentence_transformers import SentenceTransformer

    warnings.filterwarnings("ignore")  # texts over 256 tokens are cut on both sides
    torch.set_num_threads(1)
    texts = mixed(given.texts, given.most)
    theirs = SentenceTransformer(str(MINILM), device="cpu")
    ratio, real = padding(texts, theirs)
    print(f"{len(texts)} texts, {real} tokens; sentence-transformers pads to {ratio:.3f} of them", flush=True)
    for side in given.sides.split(","):
        if side == "bf16":
            ours = EmbeddingModel.from_pretrained(MINILM, dtype="bfloat16", numerics="fast")
            half = SentenceTransformer(str(MINILM), device="cpu", model_kwargs={"dtype": torch.bfloat16})
            compare("bfloat16, beside its bfloat16", ours, half, texts, given.pairs)
            compare("bfloat16, beside its float32", ours, theirs, texts, given.pairs)
        elif side == "int8":
            ours = EmbeddingModel.from_pretrained(MINILM, quantization="int8")
            compare("int8, beside its float32", ours, theirs, texts, given.pairs)
        else:
            ours = EmbeddingModel.from_pretrained(MINILM, numerics=side)
            compare(f"float32, numerics={side}", ours, theirs, texts, given.pairs)


if __name__ == "__main__":
    main()
