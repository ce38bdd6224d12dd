"""Extractive question answering: python examples/question_answering.py CHECKPOINT OUT"""

from __future__ import annotations

import sys

import biject

CONTEXT = "The bridge was built in 1894 by the engineer Ada Moss, and it crosses the river Lune."
ASKED = {
    "Who built the bridge?": "Ada Moss",
    "When was the bridge built?": "1894",
    "What is crossed?": "Lune",
}
ROWS = [
    {
        "id": str(number),
        "question": question,
        "context": CONTEXT,
        "answers": {"text": [answer], "answer_start": [CONTEXT.index(answer)]},
    }
    for number, (question, answer) in enumerate(ASKED.items())
]

if len(sys.argv) < 3:
    raise SystemExit(__doc__)
checkpoint, out = sys.argv[1:]
tokenizer = biject.AutoTokenizer.from_pretrained(checkpoint)
built = biject.build_dataset(ROWS, "qa", tokenizer)
model = biject.AutoModelForQuestionAnswering.from_pretrained(checkpoint, new_head={})
trainer = biject.Trainer.for_head(model, collate=biject.Collator.of(tokenizer), lr=2e-3, schedule="constant")
result = trainer.fit(built.dataset, batch_size=3, max_steps=40)
print(f"loss {result.losses[0]:.3f} -> {result.losses[-1]:.3f}")
model.save_pretrained(out, force=True)
assert biject.verify_trained(model, out).passed

answer = biject.pipeline("question-answering", model=out)
for question in ASKED:
    print(question, answer({"question": question, "context": CONTEXT})[0]["answer"])
