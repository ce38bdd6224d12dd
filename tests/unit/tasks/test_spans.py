"""The search for answers on plain scores, against every span tried one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from biject.tasks.spans import Window, answers, best_spans

WORDS = ["the", "cat", "sat", "on", "the", "mat", "by", "the", "door"]
TEXT = " ".join(WORDS)
OFFSETS = [(0, 0), (0, 3), (0, 0)]  # [CLS] who [SEP]
for _word in WORDS:
    _start = OFFSETS[-1][1] + (len(OFFSETS) > 3)
    OFFSETS.append((_start, _start + len(_word)))
OFFSETS.append((0, 0))
IN_CONTEXT = [False] * 3 + [True] * len(WORDS) + [False]


def window(seed: int, *, low: int = 3, high: int = 12) -> Window:
    """A window that sees the words of columns `low` to `high`."""
    draw = np.random.default_rng(seed)
    return Window(
        starts=draw.normal(size=len(OFFSETS)),
        ends=draw.normal(size=len(OFFSETS)),
        in_context=[low <= i < high for i in range(len(OFFSETS))],
        offsets=OFFSETS,
        cls=0,
    )


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("max_tokens", [1, 3, 50])
def test_best_spans(seed: int, max_tokens: int) -> None:
    one = window(seed)
    every = [
        (one.starts[i] + one.ends[j], i, j) for i in range(3, 12) for j in range(i, min(12, i + max_tokens))
    ]
    expected = sorted(every, key=lambda span: -span[0])
    assert list(best_spans(one, max_tokens=max_tokens)) == expected


def test_equal_scores_come_in_the_order_of_the_text() -> None:
    flat = Window(starts=np.zeros(13), ends=np.zeros(13), in_context=IN_CONTEXT, offsets=OFFSETS, cls=0)
    assert [span[1:] for span in best_spans(flat, max_tokens=2)][:3] == [(3, 3), (3, 4), (4, 4)]


def ask(windows: list[Window], **options: object) -> list[dict[str, object]]:
    settings = {"top_k": 3, "max_tokens": 4, "null_answer": False, "null_threshold": 0.0} | options
    return answers(TEXT, windows, **settings)


def test_answers_are_parts_of_the_context() -> None:
    found = ask([window(1)])
    assert len(found) == 3
    for answer in found:
        assert answer["answer"] == TEXT[answer["start"] : answer["end"]]
    assert [a["score"] for a in found] == sorted((a["score"] for a in found), reverse=True)


def test_scores_are_a_softmax_over_the_n_best() -> None:
    one = window(2)
    sums = [score for score, _, _ in best_spans(one, max_tokens=4)][:20]
    total = sum(math.exp(score) for score in sums)
    assert ask([one])[0]["score"] == pytest.approx(math.exp(sums[0]) / total, abs=1e-12)
    assert sum(a["score"] for a in ask([one], top_k=99)) == pytest.approx(1)


def test_a_span_that_two_windows_see_counts_once() -> None:
    found = ask([window(3, high=9), window(3, low=6)], top_k=99)
    places = [(a["start"], a["end"]) for a in found]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize(("threshold", "first"), [(-1e9, ""), (1e9, None)])
def test_the_null_answer(threshold: float, first: str | None) -> None:
    found = ask([window(4)], null_answer=True, null_threshold=threshold, top_k=99)
    assert {"start": 0, "end": 0, "answer": ""} in [
        {key: a[key] for key in ("start", "end", "answer")} for a in found
    ]
    assert (found[0]["answer"] == "") == (first == "")


def test_the_null_score_is_the_least_of_all_windows() -> None:
    one, two = window(5), window(6)
    low = min(w.starts[0] + w.ends[0] for w in (one, two))
    best = max(next(best_spans(w, max_tokens=4))[0] for w in (one, two))
    found = ask([one, two], null_answer=True, null_threshold=low - best - 1e-6)
    assert found[0]["answer"] == ""
    assert ask([one, two], null_answer=True, null_threshold=low - best + 1e-6)[0]["answer"] != ""


def test_white_space_at_the_ends_is_left_out() -> None:
    one = Window(
        starts=np.array([0.0, 5, 0]),
        ends=np.array([0.0, 5, 0]),
        in_context=[False, True, False],
        offsets=[(0, 0), (0, 5), (0, 0)],
        cls=0,
    )
    found = answers(" cat  ", [one], top_k=1, max_tokens=9, null_answer=False, null_threshold=0.0)
    assert found == [{"score": 1.0, "start": 1, "end": 4, "answer": "cat"}]


def test_no_context_no_answer() -> None:
    empty = Window(starts=np.zeros(3), ends=np.zeros(3), in_context=[False] * 3, offsets=[(0, 0)] * 3, cls=0)
    assert ask([empty]) == []
