"""Files to rows, and what bad files say."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biject.data.readers import Faults, read_delimited
from biject.data.rows import load_rows
from biject.data.table import Rows
from biject.errors import InputError


def write(folder: Path, name: str, data: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def fails(path: Any, *parts: str, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        load_rows(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message
    return message


def test_csv_with_mark_quotes_and_line_ends(tmp_path: Path) -> None:
    text = '\ufefftext,label\r\n"two\r\nlines, ""quoted""",a\r\n\r\nplain,b\r\n'
    rows = load_rows(write(tmp_path, "a.csv", text))
    assert rows.columns == ("text", "label")
    assert rows.records == [{"text": 'two\r\nlines, "quoted"', "label": "a"}, {"text": "plain", "label": "b"}]
    assert rows.numbers == [2, 5]
    assert rows.place(1, "label").endswith("a.csv, line 5, column `label`")


def test_tsv_and_a_very_long_field(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    rows = load_rows(write(tmp_path, "a.TSV", "text\tlabel\n" + "x, " * 100_000 + "\t1\n"))
    assert len(rows[0]["text"]) == 300_000
    assert csv.field_size_limit() == limit


def test_json_forms(tmp_path: Path) -> None:
    records = [{"text": "a", "label": 1}, {"text": "b", "label": None, "more": [1]}]
    lines = "\n".join(map(json.dumps, records)) + "\n\n"
    for name, text in {
        "a.jsonl": lines,
        "a.json": json.dumps(records),
        "b.json": json.dumps({"version": 1, "data": records}),
        "c.json": lines,
    }.items():
        rows = load_rows(write(tmp_path, name, text))
        assert rows.records == records
        assert rows.columns == ("text", "label", "more")
        assert rows.unit == ("line" if text is lines else "record")
    with pytest.raises(InputError, match=r"column `more`: this line lacks it"):
        load_rows(tmp_path / "a.jsonl").column("more")


def test_lines_of_text(tmp_path: Path) -> None:
    rows = load_rows(write(tmp_path, "a.txt", "one\r\n\r\ntwo \n"))
    assert [row["text"] for row in rows.records] == ["one", "two "]
    assert rows.numbers == [1, 3]


def test_iterables() -> None:
    rows = load_rows({"text": str(i)} for i in range(9))
    assert len(rows) == 9
    assert rows.place(4) == "the given generator, row 5"
    assert load_rows(rows, limit=2).numbers == range(1, 3) or list(load_rows(rows, limit=2).numbers) == [1, 2]
    fails([{"a": 1}, "text"], "row 2", "expected a mapping", "'text'")
    fails([], "has no rows")
    fails({"a": [1]}, "found dict")
    fails([{"a": 1}], "limit", limit=0)


def test_limit(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "text\na\nb\nc\n")
    assert [row["text"] for row in load_rows(path, limit=2).records] == ["a", "b"]


@pytest.mark.parametrize(
    "name, data, parts",
    [
        ("a.csv", b"", ("a.csv is empty",)),
        ("a.csv", b"\xef\xbb\xbf \n", ("is empty",)),
        ("a.csv", b"text,label\n", ("no rows below its header",)),
        ("a.csv", b"text,label\na,b\nc\n", ("line 3", "expected 2 columns", "found 1")),
        ("a.csv", b"text,label\na,b,c\n", ("line 2", "found 3", "quotes")),
        ("a.csv", b"text,text\na,b\n", ("line 1", "'text'", "more than once")),
        ("a.csv", b"text;label\na;b;c\n", ("one column", "semicolon")),
        ("a.tsv", b"text,label\na,b\n", ("between tabs", "comma")),
        ("a.csv", b'text,label\n"a,b\nc,d\n', ("line 2", "quote")),
        ("a.csv", b'text,label\nx,1\n"a"b,1\n', ("line 3", "quote")),
        ("a.csv", b"text,label\na,b\n\x00\x01,c\n", ("line 3", "binary")),
        ("a.csv", "text,label\na,b\n".encode("utf-16"), ("line 1", "UTF-16")),
        ("a.csv", "text,label\nn\xe9e,b\n".encode("latin-1"), ("line 2", "0xe9", "UTF-8")),
        ("a.jsonl", b'{"a": 1}\n{"a": \n', ("line 2", "JSON object a line", "column")),
        ("a.jsonl", b'{"a": 1}\n[1]\n', ("line 2", "found [1]")),
        ("a.jsonl", b'{"a": ' + b"[" * 100_000, ("line 1", "nesting")),
        ("a.json", b"[1, 2]", ("record 1", "found 1")),
        ("a.json", b"[]", ("has no rows",)),
        ("a.json", b'"text"', ("expected a list",)),
        ("a.json", b'[{"a":\n x}]', ("line 2", "expected JSON")),
        ("a.txt", b"\n \n", ("empty",)),
        ("a.xlsx", b"PK", ("ends in .csv",)),
        ("model.safetensors", b"\x00" * 9, ("ends in .csv",)),
    ],
)
def test_bad_files(tmp_path: Path, name: str, data: bytes, parts: tuple[str, ...]) -> None:
    fails(write(tmp_path, name, data), name, *parts)


def test_absent_files(tmp_path: Path) -> None:
    fails(tmp_path / "a.csv", "no such file")
    fails(str(tmp_path / "folder" / "x"), "no such file or folder")
    fails("nothing.parquet", "no such file or folder")
    (tmp_path / "b.csv").mkdir()
    (tmp_path / "unreadable.csv").symlink_to(tmp_path / "unreadable.csv")
    fails(tmp_path / "unreadable.csv", "cannot be read")


def test_columns_that_are_not_there() -> None:
    rows = load_rows([{"sentence": "a", "label": 1}])
    with pytest.raises(InputError, match=r"no column 'sentense'; it has `sentence`, `label`\. Did you mean"):
        rows.column("sentense")
    with pytest.raises(InputError, match="no column 'zzz'"):
        rows.column("zzz")


def test_take_keeps_places() -> None:
    rows = load_rows([{"a": i} for i in range(5)]).take([3, 1])
    assert [row["a"] for row in rows.records] == [3, 1]
    assert rows.place(0).endswith("row 4")


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)


@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=8), st.sampled_from(["\n", "\r\n"]))
def test_what_csv_writes_is_read(tmp_path_factory: pytest.TempPathFactory, cells: Any, ends: str) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator=ends, quoting=csv.QUOTE_ALL)
    writer.writerow(("a", "b"))
    writer.writerows(cells)
    path = write(tmp_path_factory.mktemp("csv"), "x.csv", out.getvalue())
    table = read_delimited(path, Faults(), ",")
    assert [(row["a"], row["b"]) for row in table.records] == cells
    assert isinstance(load_rows(path), Rows)


@given(st.binary(min_size=1, max_size=60), st.sampled_from(["a.csv", "a.tsv", "a.jsonl", "a.json", "a.txt"]))
def test_junk_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str) -> None:
    path = write(tmp_path_factory.mktemp("junk"), name, data)
    try:
        found = str(path) if len(load_rows(path)) else ""
    except InputError as error:
        found = str(error)
    assert str(path) in found
