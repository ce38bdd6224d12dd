"""Questions about contexts, SQuAD's form: long contexts are read in windows that overlap.

Source: transformers' examples/pytorch/question-answering/run_qa.py (prepare_train_features).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from biject.data.dataset import Built, Dataset, Ids
from biject.data.qa_rows import Question, read_questions
from biject.data.table import Rows
from biject.data.texts import CHUNK, Cut, Tokens
from biject.data.windows import MAX_LENGTH, cut_contexts, default_stride, rooms
from biject.events import progress
from biject.tokenization.encoded import Encoded
from biject.tokenization.tokenizer import Tokenizer


class QaDataset(Dataset):
    """Windows with the columns where their answers start and end.

    Attributes:
        questions: One a row of the table.
        starts: For each window, where its tokens start in the context, in characters; -1 outside of it.
        ends: Where they end.
        cls: For each window the column that means no answer.
    """

    def __init__(
        self,
        columns: dict[str, Any],
        *,
        rows: Sequence[int],
        questions: Sequence[Question],
        starts: Ids,
        ends: Ids,
        cls: Sequence[int],
    ) -> None:
        super().__init__("qa", columns, rows=rows)
        self.questions, self.starts, self.ends, self.cls = questions, starts, ends, cls


def build_qa(
    rows: Rows,
    tokenizer: Tokenizer,
    *,
    max_length: int | None = None,
    stride: int | None = None,
    truncate: bool = True,
    labels: Sequence[str] | None = None,
) -> Built:
    """One sample a window; see `biject.data.features.build_dataset`.

    A window without its whole answer points at `[CLS]`. Training uses a question's first answer. `stride` is
    how many tokens of the context neighbouring windows share: 128, or half of the context's room where that
    is less. Nothing is cut off, so `truncate` has no meaning here, nor have `labels`.
    """
    del truncate, labels
    questions = read_questions(rows)
    known = tokenizer.model_max_length
    limit = max_length if max_length is not None else min(MAX_LENGTH, known or MAX_LENGTH)
    windows = _Windows(tokenizer, rows, questions, limit)

    def add(_: int, start: int) -> None:
        progress("tokenize", start, len(questions), unit="questions")
        windows.add(range(start, min(start + CHUNK, len(questions))), stride)

    rows.each(range(0, len(questions), CHUNK), add)
    progress("tokenize", len(questions), len(questions), unit="questions")
    dataset = windows.dataset()
    several = len(set(windows.rows)) != len(windows.rows)
    notes = [f"{windows.num_answered} of {len(dataset)} windows contain their answer"]
    if several:
        notes.append(f"contexts over {limit} tokens with their question are read in several windows")
    return Built(dataset, (), Cut(max_length=limit).report(rows, dataset, notes=notes))


class _Windows:
    """Windows over contexts, in order."""

    def __init__(self, tokenizer: Tokenizer, rows: Rows, questions: Sequence[Question], limit: int) -> None:
        self.tokenizer, self.table, self.questions, self.limit = tokenizer, rows, questions, limit
        self.tokens, self.starts, self.ends = Tokens(), Ids(), Ids()
        self.first: list[int] = []
        self.last: list[int] = []
        self.cls: list[int] = []
        self.rows: list[int] = []
        self.num_answered = 0

    def add(self, chosen: range, stride: int | None) -> None:
        """The windows of some questions."""
        texts = [self.questions[row].question for row in chosen]
        contexts = [self.questions[row].context for row in chosen]
        room_of = zip(chosen, rooms(self.tokenizer, texts, limit=self.limit), strict=True)
        strides = self.table.each(room_of, lambda _, found: self._stride(found[0], *found[1], stride))
        encoded = cut_contexts(self.tokenizer, texts, contexts, limit=self.limit, strides=strides)
        for i, place in enumerate(encoded.overflow_to_sample):
            self._add_window(chosen[place], encoded, i)

    def dataset(self) -> QaDataset:
        columns = {**self.tokens.columns(), "start_positions": self.first, "end_positions": self.last}
        return QaDataset(
            columns,
            rows=self.rows,
            questions=self.questions,
            starts=self.starts,
            ends=self.ends,
            cls=self.cls,
        )

    def _stride(self, row: int, length: int, room: int, given: int | None) -> int:
        if room < 2 or (given is not None and not 0 <= given < room):
            raise self.table.fault(
                row,
                "question",
                f"{length} tokens leave {max(room, 0)} of {self.limit} for the context, which should be more "
                f"than {1 if given is None else f'the stride of {given}'}. Shorten it, or change the limits.",
            )
        return default_stride(room) if given is None else given

    def _add_window(self, row: int, encoded: Encoded, i: int) -> None:
        row_of = encoded.encodings[i]
        inside = [sequence == 1 for sequence in row_of.sequence_ids]
        starts = [offset[0] if here else -1 for offset, here in zip(row_of.offsets, inside, strict=True)]
        ends = [offset[1] if here else -1 for offset, here in zip(row_of.offsets, inside, strict=True)]
        cls_id = self.tokenizer.cls_token_id
        cls = row_of.ids.index(cls_id) if cls_id in row_of.ids else 0
        span = answer_span(self.questions[row], starts, ends)
        self.num_answered += span is not None
        first, last = (cls, cls) if span is None else span
        self.tokens.add_row(row_of.ids, row_of.type_ids if encoded.segments else None)
        self.starts.append(starts)
        self.ends.append(ends)
        self.first.append(first)
        self.last.append(last)
        self.cls.append(cls)
        self.rows.append(row)


def answer_span(question: Question, starts: Sequence[int], ends: Sequence[int]) -> tuple[int, int] | None:
    """The first and last token of a question's first answer, None where a window does not hold it all."""
    inside = [i for i, start in enumerate(starts) if start >= 0]
    if not question.answers or not inside:
        return None
    text, start = question.answers[0]
    end = start + len(text)
    if starts[inside[0]] > start or ends[inside[-1]] < end:
        return None
    first = max(i for i in inside if starts[i] <= start)
    last = min(i for i in inside if ends[i] >= end)
    return first, last
