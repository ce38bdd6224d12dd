"""Text and conversations for a causal language model."""

from __future__ import annotations

from collections.abc import Sequence

from biject.data.blocks import CausalDataset, check_shared, cut, packed
from biject.data.conversations import find_form
from biject.data.dataset import IGNORED, Built, Ids
from biject.data.instructions import build_conversations
from biject.data.table import Rows
from biject.data.texts import CHUNK, Cut, TextColumn, over_limit, rows_with_text
from biject.errors import InputError
from biject.events import progress
from biject.tokenization.tokenizer import Tokenizer


def build_causal(
    rows: Rows,
    tokenizer: Tokenizer,
    *,
    text_column: TextColumn | None = None,
    label_column: str | None = None,
    messages_column: str | None = None,
    system_column: str | None = None,
    max_length: int | None = None,
    truncate: bool = True,
    pieces: bool = True,
    stride: int | None = None,
    packing: bool = False,
    end_of_text: bool = True,
    labels: Sequence[str] | None = None,
) -> Built:
    """Texts, of which every token is learned, or conversations, of which the assistant's turns are; see
    `biject.data.features.build_dataset` and `biject.data.conversations.find_form`.

    Args:
        rows: With texts; or with messages; or with prompts and responses.
        tokenizer: The model's.
        text_column: Of texts, or of prompts.
        label_column: Of responses.
        messages_column: Of messages.
        system_column: Of the system's texts.
        max_length: In tokens; of a block, with `packing`.
        truncate: False to refuse what would be cut.
        pieces: Read a text over the limit in several samples; False cuts it. Conversations are always cut.
        stride: Tokens that pieces of a text share: 1 where left out.
        packing: Put texts together in blocks of up to `max_length` tokens, which fill batches evenly.
        end_of_text: Put the end-of-text token behind texts that the tokenizer gives none.
        labels: Without meaning here.

    Raises:
        InputError: What is wrong, in which file, row and column.
    """
    del labels
    form = find_form(
        rows,
        text_column=text_column,
        label_column=label_column,
        messages_column=messages_column,
        system_column=system_column,
    )
    limit = max_length if max_length is not None else tokenizer.model_max_length
    if packing and limit is None:
        raise InputError("packing needs max_length: neither the model nor the tokenizer sets a limit.")
    if form.kind != "text":
        return build_conversations(rows, form, tokenizer, limit=limit, truncate=truncate, packing=packing)
    shared = 1 if stride is None else stride
    check_shared(shared, limit)
    texts = _Texts(rows, form.text, tokenizer, limit, end_of_text=end_of_text)
    texts.read(truncate=truncate, pieces=pieces, packing=packing, shared=shared)
    return texts.built(packing=packing)


class _Texts:
    """Plain texts, in order."""

    def __init__(
        self, rows: Rows, column: str, tokenizer: Tokenizer, limit: int | None, *, end_of_text: bool
    ) -> None:
        self.rows, self.column, self.tokenizer = rows, column, tokenizer
        self.kept = rows_with_text(rows, column)
        self.end = _end(tokenizer) if end_of_text else None
        self.lost = Cut(max_length=limit)
        self.ids, self.labels = Ids(), Ids()
        self.origin: list[int] = []
        self.num_single = self.used = 0

    def read(self, *, truncate: bool, pieces: bool, packing: bool, shared: int) -> None:
        def chunk(_: int, start: int) -> None:
            progress("tokenize", start, len(self.kept), unit="texts")
            some = self.kept[start : start + CHUNK]
            encoded = self.tokenizer([self.rows[row][self.column] for row in some])
            self.rows.each(zip(some, encoded.input_ids, strict=True), lambda _, found: text(*found))

        def text(row: int, ids: list[int]) -> None:
            if not pieces:
                ids = self._shortened(row, ids, truncate=truncate)
            elif self.end is not None and ids[-1:] != [self.end]:
                ids = [*ids, self.end]
            if len(ids) < 2:
                self.num_single += 1
            else:
                self._add(row, ids, fill=packing and pieces, shared=shared)

        self.rows.each(range(0, len(self.kept), CHUNK), chunk)
        progress("tokenize", len(self.kept), len(self.kept), unit="texts")
        if not len(self.ids):
            raise InputError(
                f"{self.rows.source}, column `{self.column}`: no text has two tokens to learn from."
            )

    def _shortened(self, row: int, ids: list[int], *, truncate: bool) -> list[int]:
        """A text cut at the limit; one that is cut has no end."""
        limit = self.lost.max_length
        whole = ids if self.end is None or ids[-1:] == [self.end] else [*ids, self.end]
        if not over_limit(self.rows, [len(whole)], row, column=self.column, cut=self.lost, truncate=truncate):
            return whole
        self.lost.add([len(whole) - (limit or 0)])
        return whole[:limit]

    def _add(self, row: int, ids: list[int], *, fill: bool, shared: int) -> None:
        """A text in pieces; with `fill` the first fills up the last block."""
        limit = self.lost.max_length
        room = None
        if fill and limit is not None:
            left = limit - self.used
            if left < len(ids) and left <= shared:
                self.used, left = 0, limit
            room = None if len(ids) <= left else left
        for part in cut(len(ids), limit, shared=shared, room=room):
            again = min(shared, len(part)) if part.start else 0
            self.ids.append(ids[part.start : part.stop])
            self.labels.append([IGNORED] * again + ids[part.start + again : part.stop])
            self.origin.append(row)
            full = limit is not None and self.used + len(part) > limit
            self.used = len(part) if full else self.used + len(part)

    def built(self, *, packing: bool) -> Built:
        dataset: CausalDataset = CausalDataset(self.ids, self.labels, rows=self.origin)
        num_texts = len(set(self.origin))
        notes = []
        if len(self.kept) < len(self.rows):
            notes.append(f"{len(self.rows) - len(self.kept)} empty texts are left out")
        if self.num_single:
            notes.append(
                f"{self.num_single} texts of a single token are left out: there is no token to predict"
            )
        if len(self.ids) > num_texts:
            notes.append(
                f"{num_texts} texts are read in {len(self.ids)} pieces of up to {self.lost.max_length} tokens"
            )
        if packing and self.lost.max_length is not None:
            dataset, note = packed(dataset, self.lost.max_length)
            notes.append(note)
        return Built(dataset, (), self.lost.report(self.rows, dataset, notes=notes))


def _end(tokenizer: Tokenizer) -> int:
    found = tokenizer.eos_token_id
    if found is None:
        raise InputError(
            "every text ends with the end-of-text token, so that the model learns where to stop, and this "
            "tokenizer has none. Name one as `eos_token` in tokenizer_config.json, or set "
            "`end_of_text = false` in the recipe."
        )
    return found
