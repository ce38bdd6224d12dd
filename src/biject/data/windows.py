"""Questions with their contexts in windows that overlap: a window is a row with the question and a part."""

from __future__ import annotations

from collections.abc import Sequence

from biject.tokenization.encoded import Encoded
from biject.tokenization.tokenizer import Tokenizer

MAX_LENGTH, STRIDE = 384, 128  # of SQuAD's baselines


def rooms(tokenizer: Tokenizer, questions: Sequence[str], *, limit: int) -> list[tuple[int, int]]:
    """Each question's tokens, and how many a row of `limit` leaves for its context (0 or less for none)."""
    specials = len(tokenizer([""], [""]).input_ids[0])
    encoded = tokenizer(list(questions), add_special_tokens=False)
    return [(len(ids), limit - specials - len(ids)) for ids in encoded.input_ids]


def default_stride(room: int) -> int:
    """Tokens of the context that neighbouring windows share, where nothing else is requested."""
    return min(STRIDE, room // 2)


def cut_contexts(
    tokenizer: Tokenizer,
    questions: Sequence[str],
    contexts: Sequence[str],
    *,
    limit: int,
    strides: Sequence[int],
) -> Encoded:
    """All windows in the questions' order; `overflow_to_sample` names the question of each.

    Questions of one stride are tokenized together.
    """
    found: dict[int, list[int]] = {}
    for question, stride in enumerate(strides):
        found.setdefault(stride, []).append(question)
    windows = []
    for stride, chosen in found.items():
        encoded = tokenizer(
            [questions[i] for i in chosen],
            [contexts[i] for i in chosen],
            max_length=limit,
            truncation="only_second",
            stride=stride,
            return_overflowing=True,
        )
        owners = [chosen[place] for place in encoded.overflow_to_sample]
        windows += list(zip(owners, encoded.encodings, strict=True))
    windows.sort(key=lambda window: window[0])  # stable: a question's windows keep their order
    return Encoded([row for _, row in windows], [owner for owner, _ in windows], tokenizer([]).segments)
