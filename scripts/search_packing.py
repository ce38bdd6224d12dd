"""Random small models of odd sizes: does any packed output differ from HF's bits? Prints those, and counts.

`python scripts/search_packing.py --seconds 240 --dtypes float64 bfloat16 [--threads 2] [--seed 1]`
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from biject.families import families
from biject.verify.hf import quiet
from biject.verify.levels.packed import packed_forward
from biject.verify.reference import make_reference
from biject.verify.subject import Subject

_KEYS = {
    "distilbert": ("dim", "n_heads", "hidden_dim", "max_position_embeddings"),
    "gpt2": ("n_embd", "n_head", "n_inner", "n_positions"),
}
_COMMON = ("hidden_size", "num_attention_heads", "intermediate_size", "max_position_embeddings")


def sizes(name: str, draw: random.Random) -> dict[str, Any]:
    """A config's sizes, multiples of nothing more often than not."""
    heads, head_dim = draw.choice([2, 4]), draw.choice([8, 10, 14, 16, 24, 32, 64])
    width = heads * head_dim
    inner = draw.choice([4 * width, 37, 100, 2 * width + 2, 128])
    values = (width, heads, inner, draw.choice([64, 200, 520]))
    found: dict[str, Any] = dict(zip(_KEYS.get(name, _COMMON), values, strict=True))
    found["vocab_size"] = draw.choice([384, 391, 1000])
    if "num_key_value_heads" in families()[name].tiny:
        found["num_key_value_heads"] = draw.choice([1, 2])
    if "head_dim" in families()[name].tiny:
        found["head_dim"] = head_dim
    return found


def differing(name: str, head: str, overrides: dict[str, Any], dtype: torch.dtype) -> list[str]:
    """Lines of the checks that failed."""
    with tempfile.TemporaryDirectory() as place, quiet():
        folder = make_reference(name, head, Path(place) / "model", overrides=overrides, dtype=dtype)
        subject = Subject(folder)
        checks = packed_forward(subject, subject.theirs())
    return [check.line(name) for check in checks if not check.passed]


def main() -> int:
    """Search until the time is over; 1 where a model differed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--dtypes", nargs="+", default=["float64", "bfloat16"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    warnings.simplefilter("ignore")
    draw, tried, wrong = random.Random(given.seed), 0, 0
    until = time.monotonic() + given.seconds
    while time.monotonic() < until:
        name = draw.choice(list(families()))
        head = draw.choice(list(families()[name].heads))
        overrides, dtype = sizes(name, draw), draw.choice(given.dtypes)
        lines = differing(name, head, overrides, getattr(torch, dtype))
        tried, wrong = tried + 1, wrong + bool(lines)
        if lines:
            print(name, head, dtype, overrides, lines[0], flush=True)
    print(f"{tried} models, {wrong} with another bit")
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
