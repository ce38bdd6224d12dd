"""MiniLM on the movie snippets by Biject and by HF's Trainer: same split, recipe and first weights.

`python benchmarks/movie_snippets.py [--seeds 3] [--epochs 2] [--sides packed,padded,transformers,lora]` needs
the movie snippets and MiniLM (`make demo` fetches both) and `accelerate` for HF's Trainer. All sides run in
turn in one process. The first seed's model is exported, and HF's load of it compared on the whole test set.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from torch import Tensor

from biject.config.adapter import LoraConfig
from biject.events import Notice, Progress, listening
from biject.nn.planner import LayoutName
from biject.pretrained import load
from biject.tokenization.tokenizer import load_tokenizer
from biject.train.trainer import Trainer

ROOT = Path(__file__).resolve().parents[1]
MINILM = ROOT / ".cache" / "real" / "all-MiniLM-L6-v2"
SNIPPETS = ROOT / ".cache" / "real" / "movie-snippets.csv"
LABELS = ["negative", "positive"]
BATCH, LR, WARMUP, MAX_LENGTH = 32, 5e-5, 0.06, 64
LORA_LR = 1e-3

Sample = dict[str, Any]
"""`input_ids` and `labels`, and the `text` that they came from."""


class Quiet:
    """Drops notices (the head is new on purpose) and progress."""

    def notice(self, event: Notice) -> None: ...

    def progress(self, event: Progress) -> None: ...


def samples() -> list[Sample]:
    """Rows as token ids and labels, in the file's order."""
    with SNIPPETS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    encoded = load_tokenizer(MINILM)([row["text"] for row in rows], max_length=MAX_LENGTH, truncation=True)
    return [
        {"input_ids": ids, "labels": LABELS.index(row["label"]), "text": row["text"]}
        for ids, row in zip(encoded.input_ids, rows, strict=True)
    ]


def collate(batch: list[Sample]) -> dict[str, Tensor]:
    """Padded to the longest of the batch, as HF's DataCollatorWithPadding does."""
    longest = max(len(sample["input_ids"]) for sample in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    mask = torch.zeros(len(batch), longest, dtype=torch.long)
    for row, sample in enumerate(batch):
        ids[row, : len(sample["input_ids"])] = torch.tensor(sample["input_ids"])
        mask[row, : len(sample["input_ids"])] = 1
    labels = torch.tensor([sample["labels"] for sample in batch])
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def accuracy(model: Any, test: list[Sample]) -> float:
    """Share of the test rows whose largest logit is right; the same batches for both sides."""
    model.eval()
    right = 0
    with torch.no_grad():
        for at in range(0, len(test), 64):
            batch = collate(test[at : at + 64])
            labels = batch.pop("labels")
            right += int((model(**batch).logits.argmax(-1) == labels).sum())
    return right / len(test)


def packed(folder: Path, train: list[Sample], epochs: int, seed: int) -> Any:
    """Biject's Trainer, padding left out."""
    return ours(folder, train, epochs, seed, layout="packed")


def ours(folder: Path, train: list[Sample], epochs: int, seed: int, layout: LayoutName = "padded") -> Any:
    """Biject's Trainer over HF's rows."""
    model = load(folder, layout=layout)
    trainer = Trainer(
        model, lr=LR, warmup=WARMUP, weight_decay=0.01, clip_norm=1.0, seed=seed, collate=collate
    )
    trainer.fit(train, batch_size=BATCH, epochs=epochs)
    return model


def lora(folder: Path, train: list[Sample], epochs: int, seed: int) -> Any:
    """Biject's Trainer with an adapter of rank 8 on every linear; the base's file must stay as it is."""
    before = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    model = load(folder)
    torch.manual_seed(seed)
    model.add_adapter(LoraConfig(r=8, lora_alpha=16, target_modules="all-linear"))
    some, every = model.num_parameters(only_trainable=True), model.num_parameters()
    print(f"LoRA: {some:,} of {every:,} parameters train ({100 * some / every:.2f} %)", flush=True)
    trainer = Trainer(
        model, lr=LORA_LR, warmup=WARMUP, weight_decay=0.01, clip_norm=1.0, seed=seed, collate=collate
    )
    trainer.fit(train, batch_size=BATCH, epochs=epochs)
    assert hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() == before
    return model


def theirs(folder: Path, train: list[Sample], epochs: int, seed: int) -> Any:
    """HF's Trainer with the same settings."""
    from transformers import BertForSequenceClassification, Trainer, TrainingArguments

    model = BertForSequenceClassification.from_pretrained(folder)
    steps = -(-len(train) // BATCH) * epochs
    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArguments(
            output_dir=out,
            use_cpu=True,
            per_device_train_batch_size=BATCH,
            num_train_epochs=epochs,
            learning_rate=LR,
            warmup_steps=round(WARMUP * steps),
            weight_decay=0.01,
            max_grad_norm=1.0,
            seed=seed,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            logging_strategy="no",
            remove_unused_columns=False,
        )
        Trainer(model=model, args=arguments, train_dataset=train, data_collator=collate).train()
    return model


SIDES = {"packed": packed, "padded": ours, "transformers": theirs, "lora": lora}


def check_export(model: Any, test: list[Sample], folder: Path) -> None:
    """Export, load with HF, and compare: what is missing, logits of every test row, pipeline answers."""
    import transformers

    from biject.tasks.pipeline import pipeline

    model.eval()
    if model.adapters is not None:
        model.merge_adapter()
    model.save_pretrained(folder)
    theirs, info = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, output_loading_info=True
    )
    odd = {kind: sorted(names) for kind, names in info.items() if names}
    differing = 0
    with torch.no_grad():
        for at in range(0, len(test), 64):
            batch = collate(test[at : at + 64])
            batch.pop("labels")
            differing += int((model(**batch).logits != theirs.eval()(**batch).logits).any(-1).sum())
    here = pipeline(folder, task="classify")
    there = transformers.pipeline("text-classification", model=str(folder), device="cpu")
    texts = [sample["text"] for sample in test]
    answers = sum(here(text) != there(text) for text in texts)
    print(
        f"export: {odd or 'nothing missing or unexpected'} for HF; labels {theirs.config.id2label}; "
        f"{differing} of {len(test)} rows of logits differ, {answers} of {len(test)} pipeline answers differ",
        flush=True,
    )


def main() -> None:
    """Print one line per run and the summary."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument(
        "--sides", default="packed,padded,transformers", help="which of them, separated by commas"
    )
    parser.add_argument("--train-rows", type=int, default=9065, help="of the rows not in the test split")
    given = parser.parse_args()
    data = samples()
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0)).tolist()
    num_test = len(data) // 10
    test, train = [data[i] for i in order[:num_test]], [data[i] for i in order[num_test:]]
    train = train[: given.train_rows]
    print(f"{len(train)} rows to train on, {len(test)} to test, {torch.get_num_threads()} threads")
    sides = {name: run for name, run in SIDES.items() if name in given.sides.split(",")}
    found: dict[str, list[float]] = {name: [] for name in sides}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for seed in range(given.seeds):
        with tempfile.TemporaryDirectory() as temporary, listening(Quiet()):
            folder = Path(temporary) / "start"
            torch.manual_seed(seed)
            load(MINILM, head="seqcls", new_head={"labels": LABELS}).save_pretrained(folder)
            for name, run in sides.items():
                started = time.perf_counter()
                model = run(folder, train, given.epochs, seed)
                seconds[name].append(time.perf_counter() - started)
                found[name].append(accuracy(model, test))
                print(
                    f"seed {seed} {name:<12} accuracy {found[name][-1]:.4f}  {seconds[name][-1]:.0f} s",
                    flush=True,
                )
                if seed == 0 and name != "transformers":
                    check_export(model, test, Path(temporary) / f"export-{name}")
    for name, values in found.items():
        print(
            f"{name:<12} accuracy mean {statistics.mean(values):.4f} ({min(values):.4f}–{max(values):.4f}), "
            f"training {statistics.median(seconds[name]):.0f} s"
        )


if __name__ == "__main__":
    main()
