"""A small ViT on scikit-learn's digits, against a linear probe: python examples/pictures.py CHECKPOINT"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import biject


def batches(pictures: torch.Tensor, labels: torch.Tensor) -> Iterator[dict[str, torch.Tensor]]:
    """Drawn at random; four batches of nine are moved by one pixel."""
    draw = torch.Generator().manual_seed(0)
    while True:
        chosen = torch.randint(0, len(pictures), (64,), generator=draw)
        down, across = torch.randint(-1, 2, (2,), generator=draw).tolist()
        moved = pictures[chosen].roll(0 if down and across else down + across, -2 if down else -1)
        yield {"pixel_values": moved, "labels": labels[chosen]}


def main(checkpoint: str) -> None:
    """Train on three quarters of the digits, compare on the last."""
    digits = load_digits()
    pictures, labels = torch.tensor(digits.images).float() / 8 - 1, torch.tensor(digits.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    pictures, labels, last = pictures[order][:, None], labels[order], len(labels) // 4
    flat = pictures.flatten(1).numpy()
    probe = LogisticRegression(max_iter=5000).fit(flat[last:], labels[last:].numpy())
    torch.manual_seed(0)
    model = biject.AutoModelForImageClassification.from_pretrained(checkpoint, num_labels=10)
    biject.Trainer(model, lr=4e-3, seed=0).fit(batches(pictures[last:], labels[last:]), max_steps=1500)
    right = model(pixel_values=pictures[:last]).logits.argmax(-1) == labels[:last]
    print(f"accuracy {right.float().mean():.3f}, linear probe {probe.score(flat[:last], labels[:last]):.3f}")


main(sys.argv[1])
