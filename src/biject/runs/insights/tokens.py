"""Language models: which tokens were least likely, in some of the held-out texts."""

from __future__ import annotations

import math
from typing import Any

import torch

from biject.data.blocks import LENGTHS
from biject.data.dataset import IGNORED
from biject.data.preview import token_texts
from biject.runs.insights.common import Held, spread
from biject.train.evaluate import _in_float32  # half precision as NumPy takes it
from biject.train.loop import autocast

_MOST_TEXTS, _MOST_TOKENS, _SHOWN = 24, 192, 6


def look(held: Held) -> dict[str, Any]:
    """Texts with the loss of each learned token; logits of one text are in memory at a time."""
    model, task = held.prepared.model, held.prepared.model.head_name
    device = next(model.parameters()).device
    found = []
    for index in spread(len(held.dataset), _MOST_TEXTS):
        sample = held.dataset[index]
        length = min(sample.get(LENGTHS, [len(sample["input_ids"])])[0], _MOST_TOKENS)
        cut = {
            name: sample[name][:length]
            for name in ("input_ids", "token_type_ids", "labels")
            if name in sample
        }
        batch = {name: value.to(device) for name, value in held.prepared.collate([cut]).items()}
        labels = batch.pop("labels")[0]
        with torch.no_grad(), autocast(model, held.evaluator.autocast_dtype):
            logits_LV = _in_float32(model(**batch)).logits[0]
        if task == "causal":  # each row is about the next token
            logits_LV, labels = logits_LV[:-1], labels[1:]
        lost = torch.nn.functional.cross_entropy(
            logits_LV.float(), labels.clamp(min=0), reduction="none"
        ).tolist()
        shift = 1 if task == "causal" else 0
        losses = [None] * shift + [
            value if label != IGNORED else None for value, label in zip(lost, labels.tolist(), strict=True)
        ]
        if any(value is not None for value in losses):
            best = logits_LV.argmax(-1).tolist()
            found.append(_example(held, cut, losses, [*([0] * shift), *best], masked=task == "mlm"))
    found.sort(key=lambda example: -example["loss"])
    return {"intervals": {}, "examples": found[:_SHOWN]}


def _example(
    held: Held, sample: dict[str, Any], losses: list[float | None], best: list[int], *, masked: bool
) -> dict[str, Any]:
    """A text: each token with its loss, and what the model had expected there."""
    tokenizer = held.prepared.tokenizer
    ids = sample["input_ids"]
    if masked:  # what was hidden is shown
        ids = [
            token if label == IGNORED else label for token, label in zip(ids, sample["labels"], strict=True)
        ]
    counted = [value for value in losses if value is not None]
    tokens = [
        [text, value if value is None else round(value, 4), _name(tokenizer, guess) if value else ""]
        for text, value, guess in zip(token_texts(tokenizer, ids), losses, best, strict=True)
    ]
    mean = math.fsum(counted) / len(counted)
    return {"tokens": tokens, "loss": mean}


def _name(tokenizer: Any, token: int) -> str:
    return str(tokenizer.decode([token], clean_up_tokenization_spaces=False))
