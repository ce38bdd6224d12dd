"""Answer: the part of a context that answers a question; see `spans` for how it is chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from biject.data.windows import MAX_LENGTH, cut_contexts, default_stride, rooms
from biject.tasks.common import Task
from biject.tasks.inputs import as_pairs, is_one, require
from biject.tasks.numbers import Floats, to_numpy
from biject.tasks.spans import Window, answers
from biject.tokenization.encoded import Encoded

Item = tuple[str, str] | Mapping[str, str]


class Answer(Task):
    """Finds answers in contexts."""

    name: ClassVar[str] = "answer"
    head: ClassVar[str] = "qa"
    takes: ClassVar[tuple[str, ...]] = (
        "top_k",
        "stride",
        "max_answer_length",
        "null_answer",
        "null_threshold",
    )

    def __call__(
        self,
        inputs: Item | Sequence[Item],
        *,
        top_k: int = 1,
        stride: int | None = None,
        max_answer_length: int = 15,
        null_answer: bool = False,
        null_threshold: float = 0.0,
    ) -> list[Any]:
        """Answer one question or several.

        Args:
            inputs: pairs of question and context, as tuples or as ``{"question": …, "context": …}``.
            top_k: how many answers to give.
            stride: how many tokens of a long context neighbouring windows share (SQuAD's doc stride); by
                default 128, or half of the context's room where that is less.
            max_answer_length: the most tokens in an answer.
            null_answer: allow that there is no answer: an empty one, whose place is 0…0.
            null_threshold: how much better than the best answer the null answer has to be.

        Returns:
            A list of `score`, `start`, `end` (characters of the context) and `answer`, best first; for
            several questions, a list of these. Scores are a softmax over the 20 best.

        Raises:
            InputError: a question leaves no room for its context, or a context is empty.
        """
        for name, value in (("top_k", top_k), ("max_answer_length", max_answer_length)):
            require(value >= 1, f"`{name}` must be at least 1; found {value}.")
        require(stride is None or stride >= 0, f"`stride` must be at least 0; found {stride}.")
        questions, given = as_pairs(inputs, self.name, ("question", "context"), needed=True)
        contexts = [context or "" for context in given]
        results = []
        for place, windows in enumerate(self._windows(questions, contexts, stride)):
            found = answers(
                contexts[place],
                windows,
                top_k=top_k,
                max_tokens=max_answer_length,
                null_answer=null_answer,
                null_threshold=null_threshold,
            )
            require(bool(found), f"answer: the context of question {place + 1} has no tokens to answer with.")
            results.append(found)
        return results[0] if is_one(inputs) else results

    def _windows(
        self, questions: Sequence[str], contexts: Sequence[str], stride: int | None
    ) -> list[list[Window]]:
        """The scores of each question's windows, in their order."""
        rows = self._rows(questions, contexts, stride)
        found: dict[int, Window] = {}
        for batch, out in self.outputs(rows):
            assert out.start_logits is not None
            assert out.end_logits is not None
            starts, ends = to_numpy(out.start_logits), to_numpy(out.end_logits)
            for i, (row, length) in enumerate(zip(batch.rows, batch.lengths, strict=True)):
                found[row] = self._window(rows, row, starts[i, :length], ends[i, :length])
        grouped: list[list[Window]] = [[] for _ in questions]
        for row, sample in enumerate(rows.overflow_to_sample):
            grouped[sample].append(found[row])
        return grouped

    def _rows(self, questions: Sequence[str], contexts: Sequence[str], stride: int | None) -> Encoded:
        """Each question with every part of its context."""
        limit = min(MAX_LENGTH, self.max_tokens or MAX_LENGTH)
        strides = []
        for sample, (length, room) in enumerate(rooms(self.tokenizer, questions, limit=limit)):
            where = f"answer: question {sample + 1} has {length} tokens and"
            require(room > 1, f"{where} leaves no room for a context in the {limit} that are read at a time.")
            shared = default_stride(room) if stride is None else stride
            require(
                shared < room,
                f"{where} leaves {room} for the context: `stride` must be less; found {shared}.",
            )
            strides.append(shared)
        return cut_contexts(self.tokenizer, questions, contexts, limit=limit, strides=strides)

    def _window(self, rows: Encoded, row: int, starts: Floats, ends: Floats) -> Window:
        ids, cls = rows.input_ids[row], self.tokenizer.cls_token_id
        return Window(
            starts=starts.astype(np.float64),
            ends=ends.astype(np.float64),
            in_context=[sequence == 1 for sequence in rows.sequence_ids[row]],
            offsets=rows.offsets[row],
            cls=ids.index(cls) if cls in ids else 0,
        )
