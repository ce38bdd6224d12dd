"""Entities from a CoNLL file: python examples/named_entities.py CHECKPOINT OUT [FILE.conll]"""

from __future__ import annotations

import sys
from pathlib import Path

import biject

MADE_UP = (
    "Ada B-PER\nMoss I-PER\nlives O\nin O\nLune B-LOC\n\nLune B-LOC\nis O\nold O\n\nwe O\nsaw O\nAda B-PER\n"
)

if len(sys.argv) < 3:
    raise SystemExit(__doc__)
checkpoint, out = sys.argv[1:3]
path = Path(sys.argv[3]) if len(sys.argv) > 3 else Path(out).with_suffix(".conll")
if not path.exists():
    path.write_text(MADE_UP)
tokenizer = biject.AutoTokenizer.from_pretrained(checkpoint)
built = biject.build_dataset(path, "tokcls", tokenizer)
labels = list(built.labels)
model = biject.AutoModelForTokenClassification.from_pretrained(checkpoint, new_head={"labels": labels})
trainer = biject.Trainer.for_head(
    model,
    collate=biject.Collator.of(tokenizer),
    metrics=lambda: biject.metrics_for("tokcls", labels=labels),
    metric="f1",
    lr=2e-3,
)
result = trainer.fit(built.dataset, eval_dataset=built.dataset, batch_size=3, epochs=20)
print(f"loss {result.losses[0]:.3f} -> {result.losses[-1]:.3f}; {result.model_state}")
model.save_pretrained(out, force=True)

tag = biject.pipeline("token-classification", model=out)
for found in tag("Ada Moss lives in Lune", aggregation_strategy="first"):
    print(found["entity_group"], found["word"])
