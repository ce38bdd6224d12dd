"""A loss of one's own, for training and evaluation alike: python examples/own_loss.py CHECKPOINT"""

from __future__ import annotations

import sys
from typing import Any

import torch
import torch.nn.functional as F

import biject

TEXTS = ["so good", "so bad", "a joy", "a bore", "lovely", "dreadful", "kind", "rude"]
ROWS = [{"text": text, "label": label} for text, label in zip(TEXTS, ["glad", "sad"] * 4, strict=True)]


def focal(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Lin et al. 2017: cross entropy, and less of it where the model is sure already."""
    labels = batch.pop("labels")
    nll_B = F.cross_entropy(model(**batch).logits, labels, reduction="none")
    return ((1 - (-nll_B).exp()) ** 2 * nll_B).mean()


def main(checkpoint: str) -> None:
    """Train; the evaluation's loss is this one, and the model ends in its best state."""
    tokenizer = biject.AutoTokenizer.from_pretrained(checkpoint)
    built = biject.build_dataset(ROWS, "seqcls", tokenizer)
    model = biject.AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=2)
    trainer = biject.Trainer(model, step=focal, collate=biject.Collator.of(tokenizer), lr=1e-3)
    result = trainer.fit(built.dataset, eval_dataset=built.dataset, batch_size=4, epochs=5)
    print(f"loss {result.losses[0]:.3f} -> {result.losses[-1]:.3f}; {result.model_state}")


if len(sys.argv) < 2:
    raise SystemExit(__doc__)
main(sys.argv[1])
