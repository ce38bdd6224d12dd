"""Conversations to samples: the whole is read, and what the assistant writes is learned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from biject.data.blocks import CausalDataset, packed
from biject.data.conversations import Conversation, Form, read_conversations
from biject.data.dataset import IGNORED, Built, Ids
from biject.data.spans import Rendered, Renderer, learned_tokens
from biject.data.table import Rows
from biject.data.texts import CHUNK, Cut, over_limit
from biject.errors import InputError, shown
from biject.events import progress
from biject.tokenization.chatml import ChatTemplate, chat_template
from biject.tokenization.encoded import Encoded
from biject.tokenization.tokenizer import Tokenizer


def build_conversations(
    rows: Rows, form: Form, tokenizer: Tokenizer, *, limit: int | None, truncate: bool, packing: bool
) -> Built:
    """One sample a conversation, or with `packing` blocks of whole ones; see `biject.data.causal`.

    Conversations over the limit lose their end. What has nothing to learn, or lost it, is left out and
    counted.
    """
    made = _Conversations(rows, form, tokenizer, limit)
    found = read_conversations(rows, form)

    def add(_: int, start: int) -> None:
        progress("tokenize", start, len(found), unit="conversations")
        made.add(range(start, min(start + CHUNK, len(found))), found, truncate=truncate)

    rows.each(range(0, len(found), CHUNK), add)
    progress("tokenize", len(found), len(found), unit="conversations")
    return made.built(limit if packing else None)


class _Conversations:
    """Samples, in order."""

    def __init__(self, rows: Rows, form: Form, tokenizer: Tokenizer, limit: int | None) -> None:
        self.rows, self.form, self.tokenizer = rows, form, tokenizer
        self.templates: dict[bool, tuple[ChatTemplate, Renderer]] = {}
        self.lost = Cut(max_length=limit)
        self.ids, self.labels = Ids(), Ids()
        self.origin: list[int] = []
        self.ways: Counter[str] = Counter()
        self.ends: Counter[int] = Counter()
        self.num_empty = self.num_lost = self.num_shared = 0

    def add(self, chosen: range, found: Sequence[Conversation], *, truncate: bool) -> None:
        """Some rows' conversations."""
        rendered = self.rows.each(chosen, lambda _, row: self._rendered(row, found[row]))
        encoded = self.tokenizer([one.text for one in rendered], add_special_tokens=False)
        lengths = [len(ids) for ids in encoded.input_ids]
        over = over_limit(
            self.rows, lengths, chosen.start, column=self.form.column, cut=self.lost, truncate=truncate
        )
        limit = self.lost.max_length
        self.lost.add([lengths[i] - (limit or 0) for i in over])
        for place, row in enumerate(chosen):
            self._add(row, encoded, place, rendered[place])

    def _rendered(self, row: int, conversation: Conversation) -> Rendered:
        tools = conversation.tools is not None
        if tools not in self.templates:
            template = chat_template(self.tokenizer, tools=tools)
            self.templates[tools] = template, Renderer(template.text, self.tokenizer)
        try:
            found = self.templates[tools][1](conversation.messages, conversation.tools)
        except InputError as error:
            raise self.rows.fault(row, self.form.column, str(error)) from error
        self.ways[found.way] += 1
        return found

    def _add(self, row: int, encoded: Encoded, place: int, rendered: Rendered) -> None:
        ids = encoded.input_ids[place]
        learned, shared = learned_tokens(encoded.offsets[place], rendered.spans)
        self.num_shared += shared > 0
        kept = learned[: self.lost.max_length]
        if not any(kept[1:]):
            self.num_lost += any(learned[1:])
            self.num_empty += not any(learned[1:])
            return
        self.ends[ids[max(i for i, own in enumerate(learned) if own)]] += 1
        ids = ids[: len(kept)]
        self.ids.append(ids)
        self.labels.append([token if own else IGNORED for token, own in zip(ids, kept, strict=True)])
        self.origin.append(row)

    def built(self, block: int | None) -> Built:
        if not len(self.ids):
            why = (
                f"all lost it at the limit of {self.lost.max_length} tokens"
                if self.num_lost
                else "none has any"
            )
            raise InputError(
                f"{self.rows.source}, column `{self.form.column}`: no conversation has a token to learn: "
                f"{why}."
            )
        own = next((template.text for template, _ in self.templates.values() if not template.own), None)
        dataset = CausalDataset(self.ids, self.labels, rows=self.origin, chat_template=own)
        notes = self._notes(dataset)
        if block is not None:
            dataset, note = packed(dataset, block)
            notes.append(note)
        return Built(dataset, (), self.lost.report(self.rows, dataset, notes=notes))

    def _notes(self, dataset: CausalDataset) -> list[str]:
        """What became of the conversations, in words."""
        notes = [template.line for template, _ in self.templates.values()]
        total, learned = (
            sum(dataset.lengths),
            sum(label != IGNORED for row in self.labels.rows for label in row[1:]),
        )
        ways = ", ".join(f"by {way} in {count}" for way, count in self.ways.items())
        notes.append(
            f"{learned} of {total} tokens are learned ({100 * learned / total:.1f} %): what the assistant "
            f"writes, found {ways} rows"
        )
        shown_ends = [f"{shown(self._name(token))} in {count}" for token, count in self.ends.most_common(3)]
        notes.append(f"the last learned token is {', '.join(shown_ends)} rows")
        if self.num_lost:
            notes.append(
                f"{self.num_lost} rows lost all of their learned tokens at the limit and are left out"
            )
        if self.num_empty:
            notes.append(
                f"{self.num_empty} rows have no token to learn, by the chat template, and are left out"
            )
        if self.num_shared:
            notes.append(f"in {self.num_shared} rows a learned token begins with the end of the prompt")
        return notes

    def _name(self, token: int) -> str:
        return self.tokenizer.convert_ids_to_tokens(token) or str(token)
