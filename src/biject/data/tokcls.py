"""Words with a label each: sub-word tokens take their word's.

Source: transformers' examples/pytorch/token-classification/run_ner.py (tokenize_and_align_labels).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from biject.data.class_ids import Classes
from biject.data.dataset import IGNORED, Built, Dataset, Ids, count_labels
from biject.data.table import Rows
from biject.data.texts import CHUNK, Cut, Tokens, check_unicode, find_column, over_limit
from biject.data.written_lists import is_written, read_written
from biject.errors import shown
from biject.events import progress
from biject.tokenization.encoded import Encoded
from biject.tokenization.tokenizer import Tokenizer

_WORDS = ("tokens", "words", "text")
_LABELS = ("ner_tags", "tags", "labels", "label")


def build_tokcls(
    rows: Rows,
    tokenizer: Tokenizer,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    labels: Sequence[str] | None = None,
    label_all: bool = False,
    max_length: int | None = None,
    truncate: bool = True,
) -> Built:
    """One sample a row of words; see `biject.data.features.build_dataset`.

    Words and labels are lists (in a text, too, as JSON or Python writes them), or texts with spaces between
    them. The first token of a word has its label, the others -100; with `label_all` they have it too, as `I-`
    where it is `B-` and there is such a label.
    """
    column = find_column(rows, text_column, _WORDS, "text_column")
    tags = find_column(rows, label_column, _LABELS, "label_column")
    words = rows.each(rows.column(column), lambda row, value: _words(rows, row, column, value))
    cells = rows.each(rows.column(tags), lambda row, value: _tags(rows, row, tags, value))
    unlike = [row for row in range(len(rows)) if len(words[row]) != len(cells[row])]
    if unlike:
        raise rows.faults(
            unlike,
            tags,
            lambda row: f"expected one label for each of {len(words[row])} words, found {len(cells[row])}.",
        )
    classes = Classes.of(rows, tags, cells, labels)
    cut = Cut(max_length=max_length if max_length is not None else tokenizer.model_max_length)
    made = _Aligned(tokenizer, rows, column, cut, truncate=truncate)
    made.encode(words, classes.ids, _continued(classes.names) if label_all else None)
    dataset = Dataset("tokcls", made.columns(), rows=range(len(rows)), labels=classes.names)
    counts = count_labels(classes.names, classes.ids)
    return Built(dataset, dataset.labels, cut.report(rows, dataset, counts=counts, notes=made.notes()))


class _Aligned:
    """Token ids and labels, row by row."""

    def __init__(self, tokenizer: Tokenizer, rows: Rows, column: str, cut: Cut, *, truncate: bool) -> None:
        self.tokenizer, self.rows, self.column, self.cut, self.truncate = (
            tokenizer,
            rows,
            column,
            cut,
            truncate,
        )
        self.tokens, self.labels = Tokens(), Ids()
        self.words_lost = 0
        self.spaced = _needs_spaces(tokenizer)

    def encode(
        self, words: Sequence[list[str]], ids: Sequence[list[int]], continued: Sequence[int] | None
    ) -> None:
        def add(_: int, start: int) -> None:
            progress("tokenize", start, len(words), unit="texts")
            encoded = self._encoded(words[start : start + CHUNK], start)
            for row, of in enumerate(encoded.word_ids):
                self.labels.append(self._align(of, ids[start + row], continued))
            self.tokens.add(encoded)

        self.rows.each(range(0, len(words), CHUNK), add)
        progress("tokenize", len(words), len(words), unit="texts")

    def _encoded(self, words: Sequence[list[str]], start: int) -> Encoded:
        """Some rows' words, cut at the limit; `start` is the row of the first."""
        chunk = [self._spelt(some) for some in words]
        encoded = self.tokenizer(chunk, is_split_into_words=True)
        whole = [len(row) for row in encoded.input_ids]
        over = over_limit(self.rows, whole, start, column=self.column, cut=self.cut, truncate=self.truncate)
        if over:
            encoded = self.tokenizer(
                chunk, is_split_into_words=True, max_length=self.cut.max_length, truncation=True
            )
            self.cut.add([whole[i] - len(encoded.input_ids[i]) for i in over])
        return encoded

    def columns(self) -> dict[str, Ids]:
        return {**self.tokens.columns(), "labels": self.labels}

    def notes(self) -> tuple[str, ...]:
        if not self.words_lost:
            return ()
        return (f"{self.words_lost} labelled words have no token (cut off, or unknown to the tokenizer)",)

    def _align(
        self, words: Sequence[int | None], ids: Sequence[int], continued: Sequence[int] | None
    ) -> list[int]:
        """One label a token."""
        out, before = [], None
        for word in words:
            if word is None:
                out.append(IGNORED)
            elif word != before:
                out.append(ids[word])
            else:
                out.append(IGNORED if continued is None else continued[ids[word]])
            before = word
        self.words_lost += len(ids) - len({word for word in words if word is not None})
        return out

    def _spelt(self, words: list[str]) -> list[str]:
        return [words[0], *(f" {word}" for word in words[1:])] if self.spaced else words


def _needs_spaces(tokenizer: Tokenizer) -> bool:
    """Whether words need the space before them to be cut as they are in running text.

    A byte-level pre-tokenizer that adds no space itself would else glue them together (HF's RoBERTa refuses
    words then).
    """
    steps = tokenizer.backend.pre_tokenizer
    return type(steps).__name__ == "ByteLevel" and not steps.add_prefix_space


def _continued(names: Sequence[str]) -> list[int]:
    """For each label that of a word's further tokens: `I-X` for `B-X`, if there is one."""
    index = {name: i for i, name in enumerate(names)}
    return [index.get(f"I-{name[2:]}", i) if name.startswith("B-") else i for i, name in enumerate(names)]


def _words(rows: Rows, row: int, column: str, value: object) -> list[str]:
    words = _split(rows, row, column, value) if isinstance(value, str) else value
    if not isinstance(words, list | tuple):
        raise rows.fault(row, column, f"expected words (a list, or a text), found {shown(value)}.")
    if not words:
        raise rows.fault(row, column, "expected words, found none. Leave the row out.")
    return [_word(rows, row, column, word) for word in words]


def _word(rows: Rows, row: int, column: str, word: object) -> str:
    if not isinstance(word, str) or not word.strip():
        raise rows.fault(row, column, f"expected words as texts, found {shown(word)}.")
    check_unicode(rows, row, column, word)
    return word


def _tags(rows: Rows, row: int, column: str, value: object) -> list[Any]:
    if isinstance(value, str):
        return _split(rows, row, column, value)
    if not isinstance(value, list | tuple):
        raise rows.fault(row, column, f"expected a list of labels, one a word, found {shown(value)}.")
    return list(value)


def _split(rows: Rows, row: int, column: str, text: str) -> list[Any]:
    """A list that is written as one, or what stands between spaces."""
    parts = text.split()
    if not is_written(text):
        return parts
    found = read_written(text)
    if found is None and parts[0] != "[":  # which is a word of its own
        raise rows.fault(
            row,
            column,
            f"expected a list as JSON or Python writes it, or a text not in brackets; found {shown(text)}.",
        )
    return parts if found is None else found
