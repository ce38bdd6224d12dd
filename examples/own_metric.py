"""A metric of one's own that decides which state is best: python examples/own_metric.py CHECKPOINT"""

from __future__ import annotations

import sys
from typing import Any

import biject

TEXTS = ["so good", "so bad", "a joy", "a bore", "lovely", "dreadful", "kind", "rude"]
ROWS = [{"text": text, "label": label} for text, label in zip(TEXTS, ["glad", "sad"] * 4, strict=True)]


class RecallOfSad:
    """The share of sad texts that were found."""

    def __init__(self) -> None:
        self.found = self.there = 0

    def update(self, outputs: Any, batch: Any) -> None:
        """Count one batch."""
        sad_B = batch["labels"] == 1
        self.found += int((outputs.logits.argmax(-1)[sad_B] == 1).sum())
        self.there += int(sad_B.sum())

    def result(self) -> dict[str, float]:
        """What the evaluation reports."""
        return {"recall_of_sad": self.found / self.there}


if len(sys.argv) < 2:
    raise SystemExit(__doc__)
checkpoint = sys.argv[1]
tokenizer = biject.AutoTokenizer.from_pretrained(checkpoint)
built = biject.build_dataset(ROWS, "seqcls", tokenizer)
model = biject.AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=2)
options = {"collate": biject.Collator.of(tokenizer), "lr": 1e-3, "metric": "recall_of_sad"}
trainer = biject.Trainer(model, metrics=RecallOfSad, **options)
result = trainer.fit(built.dataset, eval_dataset=built.dataset, batch_size=4, epochs=5)
print([round(each["recall_of_sad"], 2) for each in result.history], result.model_state)
