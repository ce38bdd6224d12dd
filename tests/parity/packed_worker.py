"""Run by test_packed.py in a process of its own: other instruction sets, other thread counts."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch

from biject.pretrained import load
from biject.verify.reference import make_reference
from parity.harness import hf_model
from parity.unequal import labelled, lengths, real_differences, sizes, texts

WIDE = {"hidden_size": 256, "intermediate_size": 1024}


def main() -> None:
    """Compare small and wider models, on batches of few and of many rows."""
    torch.set_num_threads(int(sys.argv[1]))
    done = 0
    for model_type, head, more in (
        ("bert", "tokcls", WIDE),
        ("deberta-v2", "base", {}),
        ("roberta", "mlm", WIDE),
    ):
        with tempfile.TemporaryDirectory() as name:
            folder = make_reference(model_type, head, Path(name), overrides=sizes(model_type, 130, **more))
            ours = load(folder)
            theirs = hf_model(folder, ours)
            for count, shortest, longest in ((5, 2, 5), (9, 2, 40), (3, 3, 19), (6, 3, 130)):
                batch = labelled(ours, texts(ours, lengths(count, shortest, longest)))
                found = real_differences(ours, theirs, batch)
                assert not found, (model_type, count, longest, found)
                done += 1
    print(f"{done} comparisons")


if __name__ == "__main__":
    main()
