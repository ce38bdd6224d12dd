"""Columns of text to token ids, cut at a limit and counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from biject.data.dataset import Dataset, Ids, Report
from biject.data.table import Rows
from biject.errors import InputError, shown
from biject.events import progress
from biject.tokenization.encoded import Encoded
from biject.tokenization.tokenizer import Tokenizer

CHUNK = 512
"""Texts that are tokenized at once."""

TextColumn = str | Sequence[str]
"""A column, or two for pairs of texts."""


@dataclass(kw_only=True)
class Cut:
    """What a limit took away."""

    max_length: int | None
    num_cut: int = 0
    tokens_lost: int = 0

    def add(self, lost: Sequence[int]) -> None:
        """Count some texts that were cut, by the tokens that each lost."""
        self.num_cut += len(lost)
        self.tokens_lost += sum(lost)

    def report(
        self,
        rows: Rows,
        dataset: Dataset,
        *,
        counts: Mapping[str, int] | None = None,
        notes: Iterable[str] = (),
    ) -> Report:
        """What became of the rows of a table."""
        return Report(
            num_rows=len(rows),
            num_samples=len(dataset),
            lengths=dataset.lengths,
            max_length=self.max_length,
            num_cut=self.num_cut,
            tokens_lost=self.tokens_lost,
            counts=counts or {},
            notes=tuple(notes),
        )


@dataclass(kw_only=True)
class Tokens:
    """Rows of ids; `segments` is empty where the model takes none."""

    ids: Ids = field(default_factory=Ids)
    segments: Ids = field(default_factory=Ids)

    def add(self, encoded: Encoded) -> None:
        """Append some rows."""
        self.ids.extend(encoded.input_ids)
        self.segments.extend(encoded.token_type_ids or [])

    def add_row(self, ids: Sequence[int], segments: Sequence[int] | None) -> None:
        """Append one row."""
        self.ids.append(ids)
        if segments is not None:
            self.segments.append(segments)

    def columns(self) -> dict[str, Ids]:
        """What a data set takes."""
        segments = {"token_type_ids": self.segments} if len(self.segments) else {}
        return {"input_ids": self.ids, **segments}


def find_column(rows: Rows, requested: str | None, usual: Sequence[str], flag: str) -> str:
    """The requested column, else the first of the usual names that is there.

    Raises:
        InputError: There is none; the message names those that there are.
    """
    if requested is not None:
        return requested
    found = next((name for name in usual if name in rows.columns), None)
    if found is None:
        named = " or ".join(f"`{name}`" for name in usual)
        raise InputError(f"{rows.source} has no column {named}; it has {rows.named()}. Name one as {flag}.")
    return found


def read_texts(rows: Rows, column: str) -> list[str]:
    """A column's texts.

    Raises:
        InputError: One is missing, empty, no text or not Unicode.
    """
    values = rows.column(column)
    rows.each(values, lambda row, value: check_text(rows, row, column, value))
    return values


def rows_with_text(rows: Rows, column: str) -> list[int]:
    """The rows whose text is not empty, for tasks that leave empty ones out.

    Raises:
        InputError: One is no text, or all are empty.
    """

    def has_text(row: int, value: object) -> bool:
        if not isinstance(value, str):
            raise rows.fault(row, column, f"expected a text, found {shown(value)}.")
        check_unicode(rows, row, column, value)
        return bool(value.strip())

    kept = [row for row, has in enumerate(rows.each(rows.column(column), has_text)) if has]
    if not kept:
        raise InputError(f"{rows.source}, column `{column}`: expected texts, found only empty ones.")
    return kept


def check_text(rows: Rows, row: int, column: str, value: object) -> None:
    """Raise `InputError` unless `value` is a text with something in it."""
    if value is None:
        raise rows.fault(row, column, "expected a text, found none.")
    if not isinstance(value, str):
        raise rows.fault(row, column, f"expected a text, found {shown(value)}.")
    if not value.strip():
        raise rows.fault(
            row, column, "expected a text, found an empty one. Fill it in, or leave the row out."
        )
    check_unicode(rows, row, column, value)


def check_unicode(rows: Rows, row: int, column: str, text: str) -> None:
    """Raise `InputError` for a lone surrogate, which JSON can spell and no tokenizer takes."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise rows.fault(row, column, "expected Unicode text, found half of a surrogate pair.") from error


def tokenize(
    tokenizer: Tokenizer,
    rows: Rows,
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    *,
    column: str,
    cut: Cut,
    truncate: bool,
) -> Tokens:
    """Encode texts or pairs; those over the limit are cut, the longer of a pair first.

    Raises:
        InputError: A text is over the limit and `truncate` is False.
    """
    tokens = Tokens()

    def add(_: int, start: int) -> None:
        chunk = slice(start, start + CHUNK)
        progress("tokenize", start, len(texts), unit="texts")
        first, second = list(texts[chunk]), None if pairs is None else list(pairs[chunk])
        encoded = tokenizer(first, second)
        whole = [len(ids) for ids in encoded.input_ids]
        over = over_limit(rows, whole, start, column=column, cut=cut, truncate=truncate)
        if over:
            encoded = tokenizer(first, second, max_length=cut.max_length, truncation=True)
            cut.add([whole[i] - len(encoded.input_ids[i]) for i in over])
        tokens.add(encoded)

    rows.each(range(0, len(texts), CHUNK), add)
    progress("tokenize", len(texts), len(texts), unit="texts")
    return tokens


def over_limit(
    rows: Rows, lengths: Sequence[int], start: int, *, column: str, cut: Cut, truncate: bool
) -> list[int]:
    """Which of some texts are longer than the limit; `start` is the row of the first."""
    limit = cut.max_length
    over = [i for i, length in enumerate(lengths) if limit is not None and length > limit]
    if over and not truncate:
        raise rows.faults(
            (start + i for i in over),
            column,
            lambda row: (
                f"the text has {lengths[row - start]} tokens, more than the limit of {limit}. Shorten it, "
                "raise the limit, or allow truncation."
            ),
        )
    return over
