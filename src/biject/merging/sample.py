"""What a merge is measured on: the user's texts, or built-in ones, or ids where there is no tokenizer; of a
model of pictures random ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from biject.config.model import PatchConfig
from biject.data.collate import Collator
from biject.errors import CheckpointError, InputError
from biject.events import notice
from biject.model import Model
from biject.tasks.common import max_tokens
from biject.tokenization.fit import check_fits
from biject.tokenization.tokenizer import Tokenizer, load_tokenizer
from biject.verify.corpus import TEXTS
from biject.verify.inputs import mixed_cases
from biject.verify.pictures import picture_inputs

Text = str | tuple[str, str]
BATCH = 4
"""Texts at a time: with 128,000 logits a token, 4 × 512 tokens take 1 GB."""
MOST_TOKENS = 512
BUILT_IN = 16
"""Built-in texts."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Batches to compute, and what is said of them.

    Attributes:
        batches: Arguments of models, on the CPU.
        labels: A class id for each text, or None where no labels are known.
        what: In words, for the receipt.
        num_texts: How many there are.
    """

    batches: tuple[dict[str, Tensor], ...]
    labels: tuple[int, ...] | None
    what: str
    num_texts: int


def make_sample(
    model: Model,
    folder: Path,
    texts: Sequence[Text] | None,
    *,
    labels: Sequence[str | int] | None = None,
    name: str = "",
) -> Sample:
    """The user's texts with their labels, or built-in ones.

    Args:
        model: Whose inputs they become.
        folder: Of the adapter or of the model, for the tokenizer.
        texts: Texts or pairs; None for the built-in ones.
        labels: Names or ids of classes, one a text.
        name: Of the user's file, for the receipt.

    Raises:
        InputError: A label is none of the model's; there are no texts.
        CheckpointError: The user's texts need a tokenizer, and there is none.
    """
    if model.config.embedding.patches is not None:
        return _of_pictures(model.config.embedding.patches)
    try:
        tokenizer = load_tokenizer(folder, model.hf_config)
        check_fits(tokenizer, {"vocab_size": model.config.vocab_size})
    except CheckpointError as error:
        if texts is not None:
            raise
        notice("no-tokenizer", f"The merge is measured on made-up ids, as there is no tokenizer: {error}")
        cases = mixed_cases(model.source.config, max_length=64)
        batches = tuple(dict(case.inputs) for case in cases)
        count = sum(len(batch["input_ids"]) for batch in batches)
        return Sample(batches=batches, labels=None, what=f"{count} rows of made-up ids", num_texts=count)
    own = texts is not None
    built_in = [text for text in TEXTS if 20 <= len(text) <= 400][:BUILT_IN]
    chosen: Sequence[Text] = built_in if texts is None else texts
    if not chosen:
        raise InputError("The sample has no texts.")
    rows = _rows(model, tokenizer, chosen)
    ids = None if labels is None else _ids(model, labels)
    collate = (Collator.for_causal if model.head_name == "causal" else Collator.of)(
        tokenizer, segments=model.config.embedding.type_vocab_size > 1
    )
    what = f"texts of {name or 'the sample'}" if own else "built-in texts"
    if len(rows) < len(chosen):
        what += f" ({len(chosen) - len(rows)} without tokens left out)"
    listed = list(rows.values())
    groups = [listed[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    if collate.pad_token_id is None:
        groups = [[row] for row in listed]
    return Sample(
        batches=tuple(collate(group) for group in groups),
        labels=None if ids is None else tuple(ids[index] for index in rows),
        what=f"{len(rows)} {what}",
        num_texts=len(rows),
    )


def _of_pictures(patches: PatchConfig) -> Sample:
    """Random pictures, of the model's size and of others."""
    cases = picture_inputs(patches, 0)
    batches: list[dict[str, Any]] = [dict(case) for case in cases.values()]
    count = sum(len(batch["pixel_values"]) for batch in batches)
    return Sample(batches=tuple(batches), labels=None, what=f"{count} random pictures", num_texts=count)


def _rows(model: Model, tokenizer: Tokenizer, texts: Sequence[Text]) -> dict[int, dict[str, list[int]]]:
    """By the text's place; none for a text without tokens."""
    limit = min(max_tokens(model.config, tokenizer) or MOST_TOKENS, MOST_TOKENS)
    rows = {}
    for index, text in enumerate(texts):
        first, second = (text, None) if isinstance(text, str) else text
        encoded = tokenizer([first], None if second is None else [second], max_length=limit, truncation=True)
        row = {"input_ids": list(encoded.input_ids[0])}
        if encoded.token_type_ids:
            row["token_type_ids"] = list(encoded.token_type_ids[0])
        if row["input_ids"]:
            rows[index] = row
    if not rows:
        raise InputError("The sample's texts have no tokens.")
    return rows


def _ids(model: Model, labels: Sequence[str | int]) -> tuple[int, ...]:
    """Class ids of labels that are names or ids."""
    by_name = {name: index for index, name in model.id2label.items()}
    found = []
    for label in labels:
        known = by_name.get(str(label))
        if known is None and str(label).isdecimal() and int(label) in model.id2label:
            known = int(label)
        if known is None:
            raise InputError(
                f"The sample's label {str(label)[:60]!r} is none of the model's: "
                f"{', '.join(list(by_name)[:10])}."
            )
        found.append(known)
    return tuple(found)


def real(batch: dict[str, Tensor]) -> Tensor:
    """(B, L), True at real tokens; of pictures (B, 1)."""
    if "pixel_values" in batch:
        return torch.ones((len(batch["pixel_values"]), 1), dtype=torch.bool)
    mask = batch.get("attention_mask")
    return torch.ones_like(batch["input_ids"], dtype=torch.bool) if mask is None else mask.bool()
