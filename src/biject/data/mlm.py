"""Plain text for a masked language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from biject.data.dataset import Built, Dataset, Ids, Sample
from biject.data.masking import Masking
from biject.data.table import Rows
from biject.data.texts import CHUNK, Cut, Tokens, find_column, rows_with_text
from biject.errors import InputError
from biject.events import progress
from biject.tokenization.tokenizer import Tokenizer


class MaskedDataset(Dataset):
    """Samples whose masks change from epoch to epoch; one whose epoch is never set keeps its masks."""

    def __init__(self, tokens: Tokens, words: Ids, *, rows: Sequence[int], masking: Masking) -> None:
        super().__init__("mlm", tokens.columns(), rows=rows)
        self.masking, self.epoch = masking, 0
        self._words = words

    def sample(self, index: int) -> Sample:
        """One sample, masked for the epoch that was set."""
        sample = super().sample(index)
        ids, labels = self.masking(sample["input_ids"], self._words[index], epoch=self.epoch, index=index)
        return {**sample, "input_ids": ids, "labels": labels}

    def digest_into(self, digest: Any) -> None:
        """The texts, their words, and how masks are drawn."""
        super().digest_into(digest)
        digest.update(repr(self.masking).encode())
        for row in self._words.rows:
            digest.update(row.tobytes())

    def set_epoch(self, epoch: int) -> None:
        """Draw the masks of another epoch."""
        self.epoch = epoch


def build_mlm(
    rows: Rows,
    tokenizer: Tokenizer,
    *,
    text_column: str | None = None,
    max_length: int | None = None,
    seed: int = 0,
    share: float = 0.15,
    whole_words: bool = False,
    truncate: bool = True,
    labels: Sequence[str] | None = None,
) -> Built:
    """One sample a text, several where it is longer than the limit; see
    `biject.data.features.build_dataset`.

    Empty texts are left out, and nothing is cut off, so `truncate` has no meaning here, nor have `labels`.
    """
    del truncate, labels
    mask_id = tokenizer.mask_token_id
    if mask_id is None:
        raise InputError("Masked language modelling needs a mask token, and this tokenizer has none.")
    masking = Masking(
        mask_token_id=mask_id, vocab_size=len(tokenizer), share=share, whole_words=whole_words, seed=seed
    )
    column = find_column(rows, text_column, ("text", "sentence"), "text_column")
    kept = rows_with_text(rows, column)
    limit = max_length if max_length is not None else tokenizer.model_max_length
    tokens, words, origin = _tokens(rows, column, kept, tokenizer, limit)
    dataset = MaskedDataset(tokens, words, rows=origin, masking=masking)
    notes = []
    if len(kept) < len(rows):
        notes.append(f"{len(rows) - len(kept)} empty texts are left out")
    if len(dataset) > len(kept):
        notes.append(f"texts over {limit} tokens are read in several samples")
    return Built(dataset, (), Cut(max_length=limit).report(rows, dataset, notes=notes))


def _tokens(
    rows: Rows, column: str, kept: Sequence[int], tokenizer: Tokenizer, limit: int | None
) -> tuple[Tokens, Ids, list[int]]:
    """Tokens, the word of each, and the row of each sample; samples of special tokens alone are left out."""
    special = {index for index in tokenizer.all_special_ids if index is not None}
    tokens, words = Tokens(), Ids()
    origin: list[int] = []
    for start in range(0, len(kept), CHUNK):
        progress("tokenize", start, len(kept), unit="texts")
        chunk = kept[start : start + CHUNK]
        encoded = tokenizer(
            [rows[row][column] for row in chunk], max_length=limit, truncation=True, return_overflowing=True
        )
        for place, row in zip(encoded.overflow_to_sample, encoded.encodings, strict=True):
            word_of = [
                -1 if word is None or index in special else word
                for word, index in zip(row.word_ids, row.ids, strict=True)
            ]
            if max(word_of, default=-1) < 0:
                continue
            tokens.add_row(row.ids, row.type_ids if encoded.segments else None)
            words.append(word_of)
            origin.append(chunk[place])
    progress("tokenize", len(kept), len(kept), unit="texts")
    if not origin:
        raise InputError(f"{rows.source}, column `{column}`: the texts have no token that could be masked.")
    return tokens, words, origin
