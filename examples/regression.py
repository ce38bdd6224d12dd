"""A number for a text: python examples/regression.py CHECKPOINT OUT"""

from __future__ import annotations

import sys

import biject

STARS = {"awful, just awful": 1.0, "not good": 2.0, "it was fine": 3.0, "really good": 4.0, "perfect": 5.0}
ROWS = [{"text": text, "label": stars} for text, stars in STARS.items()]

if len(sys.argv) < 3:
    raise SystemExit(__doc__)
checkpoint, out = sys.argv[1:]
tokenizer = biject.AutoTokenizer.from_pretrained(checkpoint)
built = biject.build_dataset(ROWS, "seqcls", tokenizer, problem_type="regression")
model = biject.AutoModelForSequenceClassification.from_pretrained(
    checkpoint, new_head={"labels": ["stars"], "problem_type": "regression"}
)
trainer = biject.Trainer.for_head(
    model,
    collate=biject.Collator.of(tokenizer),
    metrics=lambda: biject.metrics_for("seqcls", labels=["stars"], problem_type="regression"),
    lr=2e-3,
    schedule="constant",
    metric="pearson",
)
result = trainer.fit(built.dataset, eval_dataset=built.dataset, batch_size=5, epochs=60)
print(f"loss {result.losses[0]:.3f} -> {result.losses[-1]:.3f}; {result.model_state}")
model.save_pretrained(out, force=True)

rate = biject.pipeline("text-classification", model=out)
print({text: round(rate(text)[0]["score"], 1) for text in STARS})
