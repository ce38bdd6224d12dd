"""Several labels for one text: python examples/multi_label.py CHECKPOINT OUT"""

from __future__ import annotations

import sys

import biject

ROWS = [
    {"text": "the soup was cold and the waiter rude", "labels": "food|service"},
    {"text": "the soup was salty", "labels": "food"},
    {"text": "nobody greeted us", "labels": "service"},
    {"text": "we came by bus", "labels": ""},
] * 4

if len(sys.argv) < 3:
    raise SystemExit(__doc__)
checkpoint, out = sys.argv[1:]
tokenizer = biject.AutoTokenizer.from_pretrained(checkpoint)
built = biject.build_dataset(ROWS, "seqcls", tokenizer, label_column="labels", label_separator="|")
model = biject.AutoModelForSequenceClassification.from_pretrained(
    checkpoint,
    new_head={"labels": list(built.labels), "problem_type": "multi_label_classification"},
)
trainer = biject.Trainer.for_head(model, collate=biject.Collator.of(tokenizer), lr=2e-3, schedule="constant")
result = trainer.fit(built.dataset, batch_size=8, max_steps=30)
print(f"loss {result.losses[0]:.3f} -> {result.losses[-1]:.3f}")
model.save_pretrained(out, force=True)

classify = biject.pipeline("text-classification", model=out)
for row in ROWS[:4]:
    found = classify(row["text"], top_k=None)
    print(row["text"], sorted(each["label"] for each in found if each["score"] > 0.5))
