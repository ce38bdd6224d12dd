"""Questions, contexts and answers out of rows, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from biject.data.table import Rows
from biject.data.texts import read_texts
from biject.errors import InputError, shown


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question about a context; `answers` are (text, start in characters), none where there is none."""

    question: str
    context: str
    answers: tuple[tuple[str, int], ...]


def read_questions(rows: Rows) -> list[Question]:
    """Rows with `question`, `context` and `answers` (texts and starts), or `answer` and `answer_start`.

    Raises:
        InputError: A text is missing, or an answer is not at its start.
    """
    questions = [text.lstrip() for text in read_texts(rows, "question")]
    contexts = read_texts(rows, "context")
    single = "answers" not in rows.columns and "answer_start" in rows.columns
    column = next((name for name in ("answer", "text") if single and name in rows.columns), "answers")
    values = rows.column(column)
    starts = rows.column("answer_start") if single else []

    def read(row: int, texts: tuple[str, str]) -> Question:
        pairs = [(values[row], starts[row])] if single else _pairs(rows, row, column, values[row])
        checked = (_checked(rows, row, column, texts[1], *pair) for pair in pairs)
        answers = tuple(answer for answer in checked if answer is not None)
        return Question(question=texts[0], context=texts[1], answers=answers)

    found = rows.each(zip(questions, contexts, strict=True), read)
    if not any(question.answers for question in found):
        raise InputError(f"{rows.source}: expected answers, found none in {len(rows)} rows.")
    return found


def _pairs(rows: Rows, row: int, column: str, value: object) -> Sequence[tuple[object, object]]:
    """Lists of texts and starts, or a list of texts with their starts."""
    if isinstance(value, Mapping) and {"text", "answer_start"} <= set(value):
        texts, starts = value["text"], value["answer_start"]
        if isinstance(texts, list | tuple) and isinstance(starts, list | tuple) and len(texts) == len(starts):
            return list(zip(texts, starts, strict=True))
    if isinstance(value, list) and all(isinstance(v, Mapping) and "text" in v for v in value):
        return [(answer["text"], answer.get("answer_start")) for answer in value]
    raise rows.fault(
        row, column, f"expected `text` and `answer_start`, two lists of one length, found {shown(value)}."
    )


def _checked(
    rows: Rows, row: int, column: str, context: str, text: object, start: object
) -> tuple[str, int] | None:
    """An answer that is in the context; None for an empty one, which means that there is none."""
    if text is None or text == "":
        return None
    if isinstance(start, str) and start.strip().isdecimal():
        start = int(start)
    if not isinstance(text, str) or not isinstance(start, int) or isinstance(start, bool) or start < 0:
        raise rows.fault(
            row, column, f"expected an answer's text and its start, found {shown(text)} and {shown(start)}."
        )
    there = context[start : start + len(text)]
    if there != text:
        raise rows.fault(
            row,
            column,
            f"answer_start {start} should point at {shown(text)}, but the context has {shown(there)}.",
        )
    return text, start
