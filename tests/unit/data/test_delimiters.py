"""Columns between commas, semicolons, tabs and bars; rows that cannot be used, left out and counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from biject.data.delimited import _header
from biject.data.features import build_dataset
from biject.data.rows import load_rows
from biject.errors import BijectWarning, InputError
from biject.tokenization.tokenizer import Tokenizer, load_tokenizer

from .conftest import write_letters


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load_tokenizer(write_letters(tmp_path_factory.mktemp("letters")))


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


LINES = (("text", "label"), ("a good one, really", "yes"), ("no; never", "no"))


def table(mark: str) -> str:
    return "".join(mark.join(f'"{cell}"' for cell in line) + "\n" for line in LINES)


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_other_delimiters_are_found_and_told(tmp_path: Path, mark: str) -> None:
    path = write(tmp_path / "x.csv", table(mark))
    with pytest.warns(BijectWarning, match="columns are between"):
        rows = load_rows(path)
    assert [tuple(row.values()) for row in rows.records] == list(LINES[1:])
    assert load_rows(path, delimiter=mark).records == rows.records


@pytest.mark.parametrize(
    "text",
    [
        "text,label\na;b,yes\nc;d,no\n",  # semicolons in every value
        "text;label,kind\na;b,yes\nc;d,no\n",
        "text\njust one; column\nand; another\n",
        'text,label\n"a, b",yes\n',
    ],
)
def test_commas_stay_commas(tmp_path: Path, text: str, recwarn: pytest.WarningsRecorder) -> None:
    rows = load_rows(write(tmp_path / "x.csv", text))
    assert rows.columns == tuple(text.split("\n")[0].split(","))
    assert not len(recwarn)


def test_what_is_not_clear_is_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "a;b|c\n1;2|3\n")
    with pytest.raises(InputError, match="semicolon and bars: say which, by `delimiter`"):
        load_rows(path)
    assert load_rows(path, delimiter="|").columns == ("a;b", "c")
    for wrong in (";;", ""):
        with pytest.raises(InputError, match="one character"):
            load_rows(path, delimiter=wrong)
    with pytest.raises(InputError, match="one character"):
        load_rows(write(tmp_path / "x.jsonl", "{}"), delimiter=";")


def test_a_damaged_row_does_not_hide_the_delimiter(tmp_path: Path) -> None:
    lines = ["text;label", *(f"a{i};yes" for i in range(9)), "one;too;many"]
    path = write(tmp_path / "x.csv", "\n".join(lines) + "\n")
    with pytest.warns(BijectWarning, match="semicolons"), pytest.raises(InputError, match="line 11"):
        load_rows(path)


def test_a_sentence_with_a_damaged_line_is_left_out_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "x.conll", "the O\nfox B-X\n\na O\nbroken\ndog B-X\n\nbroken\n\nyes O\n")
    with pytest.raises(InputError, match="line 5"):
        load_rows(path)
    rows = load_rows(path, skip_bad_rows=True)
    assert [row["tokens"] for row in rows.records] == [["the", "fox"], ["yes"]]
    assert list(rows.numbers) == [1, 10]
    assert len(rows.skipped) == 2


def seqcls(tokenizer: Tokenizer, rows: Any, **options: Any) -> Any:
    return build_dataset(rows, "seqcls", tokenizer, labels=("no", "yes"), **options)


YES, NO = '\n{"text": "a", "label": "yes"}\n', '{"text": "c", "label": "no"}\n'
BAD: dict[str, tuple[str, str]] = {
    "columns": ("x.csv", "text,label\na,yes\nb,no,more\nc,no\n"),
    "quote": ("x.csv", 'text,label\na,yes\n"b"b,no\nc,no\n'),
    "label": ("x.csv", "text,label\na,yes\nb,maybe\nc,no\n"),
    "a number": ("x.jsonl", f'{YES}{{"text": 7, "label": "no"}}\n{NO}'),
    "json": ("x.jsonl", f'{YES}{{"text": \n{NO}'),
    "no object": ("x.jsonl", f"{YES}[1]\n{NO}"),
    "a key less": ("x.jsonl", f'{YES}{{"text": "b"}}\n{NO}'),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_rows_are_refused_or_skipped(tokenizer: Tokenizer, tmp_path: Path, kind: str) -> None:
    name, text = BAD[kind]
    path = write(tmp_path / name, text)
    with pytest.raises(InputError, match="line 3"):
        seqcls(tokenizer, load_rows(path))
    built = seqcls(tokenizer, path, skip_bad_rows=True)
    assert [sample["labels"] for sample in built.dataset] == [1, 0]
    assert built.dataset.rows in ([0, 1], [0, 2])  # without lines that could not be read at all
    (note,) = (line for line in built.report.lines() if "skipped" in line)
    assert note.startswith("1 rows skipped: ")
    assert f"{path}, line 3" in note


def test_too_many_bad_rows(tokenizer: Tokenizer, tmp_path: Path) -> None:
    lines = ["a,yes"] * 50 + ["b,maybe"] * 150
    path = write(tmp_path / "x.csv", "text,label\n" + "\n".join(lines) + "\n")
    with pytest.raises(InputError, match="more than 100 rows cannot be used"):
        seqcls(tokenizer, path, skip_bad_rows=True)
    path = write(tmp_path / "y.csv", "text,label\n" + "b,maybe\n" * 5)
    with pytest.raises(InputError, match="none of 5 rows can be used"):
        seqcls(tokenizer, path, skip_bad_rows=True)


def test_good_rows_are_what_they_are_without_the_bad_ones(tokenizer: Tokenizer, tmp_path: Path) -> None:
    good = ["a,yes", "bb,no", "ccc,yes", "d,no"]
    whole = seqcls(tokenizer, write(tmp_path / "good.csv", "\n".join(["text,label", *good]) + "\n"))
    mixed = [good[0], "x,maybe", good[1], good[2], "y,never", good[3]]
    path = write(tmp_path / "mixed.csv", "\n".join(["text,label", *mixed]) + "\n")
    found = seqcls(tokenizer, path, skip_bad_rows=True)
    assert list(found.dataset) == list(whole.dataset)
    assert found.dataset.rows == [0, 2, 3, 5]


def test_conversations(tokenizer: Tokenizer, tmp_path: Path) -> None:
    rows = [
        {"prompt": "a", "response": "b"},
        {"prompt": "a", "response": None},
        {"prompt": 5, "response": "b"},
    ]
    build: Callable[..., Any] = build_dataset
    built = build(rows, "causal", tokenizer, skip_bad_rows=True)
    assert len(built.dataset) == 1
    assert any(line.startswith("2 rows skipped") for line in built.report.lines())


def test_many_columns_are_not_compared_pair_by_pair(tmp_path: Path) -> None:
    compared = []

    class Name(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def strip(self, *letters: Any) -> Name:
            return self

        def __eq__(self, other: object) -> bool:
            compared.append(other)
            return str.__eq__(self, other)

    names = [Name(f"c{i}") for i in range(500)]
    assert _header(tmp_path, names, ",") == names
    compared.clear()
    _header(tmp_path, names, ",")
    assert len(compared) <= 500
    with pytest.raises(InputError, match=r"line 1: the header has the column 'c7' more than once"):
        _header(tmp_path, [*names, Name("c9"), Name("c7")], ",")
