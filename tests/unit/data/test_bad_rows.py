"""Rows that cannot be used are found all together: a table is built twice, however many there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from biject.data import features
from biject.data.features import build_dataset
from biject.data.rows import load_rows
from biject.data.table import RowError
from biject.errors import InputError
from biject.tokenization.tokenizer import Tokenizer, load_tokenizer

from . import chat_templates as templates
from .conftest import write_letters

COUNT, EVERY = 1100, 16
"""Rows, more than are tokenized at once, and how many go by for each that is bad."""
ASK, SAY = {"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}
OTHER = {"role": "assistant", "content": "three"}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """With a chat template that refuses messages of one role behind each other."""
    folder = write_letters(tmp_path_factory.mktemp("llama"), chat_template=templates.LLAMA_2)
    return load_tokenizer(folder)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each table that a task's builder was called with."""
    found: list[int] = []

    def counted(build: Callable[..., Any]) -> Callable[..., Any]:
        def counting(rows: Any, *args: Any, **options: Any) -> Any:
            found.append(len(rows))
            return build(rows, *args, **options)

        return counting

    monkeypatch.setattr(features, "_TASKS", {name: counted(of) for name, of in features._TASKS.items()})
    return found


SHORT: dict[str, Any] = {"max_length": 8, "truncate": False}
KINDS: dict[str, tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "the same twice": ("dpo", {"prompt": "a", "chosen": "b", "rejected": "c"}, {"rejected": "b"}, {}),
    "the same messages twice": (
        "dpo",
        {"prompt": [ASK], "chosen": [SAY], "rejected": [OTHER]},
        {"rejected": [SAY]},
        {},
    ),
    "a refused pair": (
        "reward",
        {"chosen": [ASK, SAY], "rejected": [ASK, OTHER]},
        {"chosen": [ASK, ASK, SAY]},
        {},
    ),
    "a long prompt": ("dpo", {"prompt": "a", "chosen": "b", "rejected": "c"}, {"prompt": "a" * 9}, SHORT),
    "a refused conversation": ("causal", {"messages": [ASK, SAY]}, {"messages": [ASK, ASK, SAY]}, {}),
    "no conversation": ("causal", {"messages": [ASK, SAY]}, {"messages": [ASK]}, {}),
    "a long text": ("causal", {"text": "abc"}, {"text": "abcdefghi"}, {**SHORT, "pieces": False}),
    "a long text with a label": ("seqcls", {"text": "abc", "label": "x"}, {"text": "abcdefghi"}, SHORT),
    "no label": ("seqcls", {"text": "abc", "label": "x"}, {"label": None}, {}),
    "an unknown label": ("seqcls", {"text": "abc", "label": "x"}, {"label": "z"}, {"labels": ["x", "y"]}),
    "no number": ("seqcls", {"text": "abc", "label": 0.5}, {"label": "NA"}, {"problem_type": "regression"}),
    "a label too few": ("tokcls", {"tokens": ["a", "b"], "tags": ["x", "x"]}, {"tags": ["x"]}, {}),
    "no words": ("tokcls", {"tokens": ["a", "b"], "tags": ["x", "x"]}, {"tokens": []}, {}),
    "an answer elsewhere": (
        "qa",
        {"question": "a", "context": "bcd", "answers": {"text": ["c"], "answer_start": [1]}},
        {"context": "bbb"},
        {},
    ),
    "a score outside": ("rerank", {"query": "a", "document": "b", "score": 0.5}, {"score": 7}, {}),
    "no document": ("embed", {"anchor": "a", "positive": "b"}, {"positive": ""}, {}),
}


def table(kind: str) -> tuple[str, list[Any], list[int], dict[str, Any]]:
    """The task, rows, which of them are good, and options."""
    task, good, change, options = KINDS[kind]
    bad = {**good, **change}
    rows: list[Any] = [bad if row % EVERY == 3 else dict(good) for row in range(COUNT)]
    for name, other in (("label", "y"), ("tags", ["y", "y"])):
        if isinstance(good.get(name), str | list):
            rows[0] = {**good, name: other}
    return task, rows, [row for row in range(COUNT) if row % EVERY != 3], options


@pytest.mark.parametrize("kind", KINDS)
def test_bad_rows_are_found_in_one_pass(llama: Tokenizer, passes: list[int], kind: str) -> None:
    task, rows, good, options = table(kind)
    with pytest.raises(InputError, match="row 4"):
        build_dataset(rows, task, llama, **options)
    passes.clear()
    found = build_dataset(rows, task, llama, skip_bad_rows=True, **options)
    assert passes == [COUNT, len(good)]
    whole = build_dataset([rows[row] for row in good], task, llama, **options)
    assert list(found.dataset) == list(whole.dataset)
    assert [found.dataset.table_row(i) for i in range(len(good))] == good
    (note,) = (line for line in found.report.lines() if "skipped" in line)
    assert note.startswith(f"{COUNT - len(good)} rows skipped: ")
    assert note.index("row 4,") < note.index("row 20,") < note.index("row 36,")


def test_columns_of_labels_are_looked_at_together(llama: Tokenizer, passes: list[int]) -> None:
    names = [f"c{i}" for i in range(8)]
    rows: list[Any] = [{"text": "abc", **dict.fromkeys(names, row % 2)} for row in range(60)]
    for i, name in enumerate(names):
        rows[5 * i + 2][name] = None
        rows[2][name] = None
    built = build_dataset(rows, "seqcls", llama, label_column=names, skip_bad_rows=True)
    assert passes == [60, 52]
    assert len(built.dataset) == 52


def test_one_row_by_which_the_others_are_read_is_left_out_alone(llama: Tokenizer, passes: list[int]) -> None:
    """The first row says that there are texts where all others have messages."""
    rows: list[Any] = [{"prompt": [ASK], "chosen": [SAY], "rejected": [OTHER]} for _ in range(300)]
    rows[0]["chosen"] = None
    rows[9]["rejected"] = [SAY]
    built = build_dataset(rows, "dpo", llama, skip_bad_rows=True)
    assert len(built.dataset) == 298
    assert passes == [300, 299, 298]


def test_a_hopeless_table_is_given_up_soon(llama: Tokenizer, passes: list[int]) -> None:
    rows = [{"prompt": "a", "chosen": "b", "rejected": "b"}] * 5000
    with pytest.raises(InputError, match=r"more than 500 rows cannot be used.*row 501, column `rejected`"):
        build_dataset(rows, "dpo", llama, skip_bad_rows=True)
    assert len(passes) == 11


def test_as_many_faults_as_are_wanted() -> None:
    rows = load_rows([{"a": i} for i in range(9)])
    seen: list[int] = []

    def read(place: int, value: int) -> int:
        seen.append(place)
        if value % 2:
            raise rows.fault(place, "a", "odd")
        return value

    for wanted, last, count in ((1, 1, 1), (3, 5, 3), (9, 8, 4)):
        seen.clear()
        with pytest.raises(RowError, match="row 2, column `a`: odd") as caught:
            replace(rows, wanted=wanted).each(range(9), read)
        assert seen[-1] == last
        assert [fault.number for fault in caught.value.all] == [2, 4, 6, 8][:count]
    assert rows.each(range(0, 9, 2), lambda place, value: (place, value))[1] == (1, 2)
