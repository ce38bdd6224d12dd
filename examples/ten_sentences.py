"""Fine-tune on ten sentences, by the API: a loss curve, and a probe sentence before and after.

    python scripts/fetch_real.py all-MiniLM-L6-v2
    python examples/ten_sentences.py .cache/real/all-MiniLM-L6-v2

MiniLM makes vectors of sentences and knows no moods. Five steps on ten labelled sentences teach it; the
result is a Hugging Face folder that `transformers` loads, and computes the same numbers from.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch

import biject
from biject.data.collate import Collator
from biject.data.features import build_dataset
from biject.model import Model
from biject.tokenization.tokenizer import Tokenizer, load_tokenizer
from biject.verify import verify_trained

GLAD = (
    "What a lovely evening, I laughed the whole time.",
    "The soup was delicious and the waiter was kind.",
    "This is the best book that I have read this year.",
    "We loved the hotel and would come back tomorrow.",
    "A wonderful concert, everyone was smiling.",
)
SAD = (
    "What a dreadful evening, I wanted to leave.",
    "The soup was cold and the waiter was rude.",
    "This is the worst book that I have read this year.",
    "We hated the hotel and will never come back.",
    "A boring concert, everyone was yawning.",
)
PROBES = ("I enjoyed every minute of the film.", "The film was a waste of money.")


def probe(model: Model, tokenizer: Tokenizer) -> list[float]:
    """How probable the model finds `glad` for each probe sentence."""
    batch = tokenizer(list(PROBES), padding=True).tensors()
    with torch.no_grad():
        logits = model(**batch).logits
    return logits.softmax(-1)[:, model.hf_config["label2id"]["glad"]].tolist()


def bar(value: float, *, width: int = 40) -> str:
    """A number between 0 and 1 as a bar."""
    return "█" * round(width * min(1.0, value))


def main(checkpoint: str, out: str) -> None:
    """Load, probe, train, probe, export, verify."""
    rows = [{"text": text, "label": "glad"} for text in GLAD]
    rows += [{"text": text, "label": "sad"} for text in SAD]
    tokenizer = load_tokenizer(Path(checkpoint))
    built = build_dataset(rows, "seqcls", tokenizer)

    torch.manual_seed(0)  # of the new head
    model = biject.AutoModelForSequenceClassification.from_pretrained(
        checkpoint, new_head={"labels": list(built.labels)}
    )
    before = probe(model, tokenizer)

    trainer = biject.Trainer.for_head(model, collate=Collator.of(tokenizer), lr=3e-4, schedule="constant")
    result = trainer.fit(built.dataset, batch_size=10, max_steps=5)
    print("loss")
    for step, loss in enumerate(result.losses, start=1):
        print(f"  step {step}  {loss:.3f}  {bar(loss)}")

    print("how glad a sentence sounds, before and after")
    for text, first, last in zip(PROBES, before, probe(model, tokenizer), strict=True):
        print(f"  {first:.2f} -> {last:.2f}  {text}")

    model.save_pretrained(out)
    report = verify_trained(model, out, prompt=PROBES[0])
    print("\n".join(line for level in report.levels for line in level.lines() if "[prompt]" in line))
    print(report.verdict().replace(out, "the export"))
    if not report.passed:
        raise SystemExit(1)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit(f"usage: {sys.argv[0]} CHECKPOINT [OUT]")
    with tempfile.TemporaryDirectory() as temporary:
        main(sys.argv[1], sys.argv[2] if len(sys.argv) == 3 else str(Path(temporary) / "export"))
