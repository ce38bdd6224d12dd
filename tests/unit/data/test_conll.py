"""Columns of words and tags."""

from __future__ import annotations

from pathlib import Path

import pytest

from biject.data.rows import load_rows
from biject.errors import InputError

TEXT = """-DOCSTART- -X- -X- O

# sent_id = 1
EU NNP B-NP B-ORG
rejects VBZ B-VP O
# NN B-NP O

Peter\tNNP\tB-NP\tB-PER
Blackburn\tNNP\tI-NP\tI-PER


"""


@pytest.mark.parametrize("ending", [".conll", ".bio", ".iob", ".iob2", ".CONLL"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_sentences_with_their_places(ending: str, newline: str, tmp_path: Path) -> None:
    path = tmp_path / f"train{ending}"
    path.write_bytes(TEXT.replace("\n", newline).encode())
    rows = load_rows(path)
    assert rows.column("tokens") == [["EU", "rejects", "#"], ["Peter", "Blackburn"]]
    assert rows.column("tags") == [["B-ORG", "O", "O"], ["B-PER", "I-PER"]]
    assert list(rows.numbers) == [4, 8]


def read(text: str, tmp_path: Path) -> tuple[list[list[str]], list[list[str]]]:
    (tmp_path / "rows.conll").write_text(text, encoding="utf-8")
    rows = load_rows(tmp_path / "rows.conll")
    return rows.column("tokens"), rows.column("tags")


@pytest.mark.parametrize(
    "comment",
    [
        "# id 5239d808-f300-46ea\tdomain=en",
        "# id 5239d808",
        "# newpar",
        "# newdoc id = x",
        "# a=b",
        "# text = a",
    ],
)
def test_comments_before_a_sentence(comment: str, tmp_path: Path) -> None:
    text = f"{comment}\nEU _ _ B-ORG\n\n{comment}\n# newpar\nPeter _ _ B-PER\n"
    assert read(text, tmp_path) == ([["EU"], ["Peter"]], [["B-ORG"], ["B-PER"]])


def test_a_number_sign_is_a_word(tmp_path: Path) -> None:
    assert read("# O\n# id O\n# NN O\n", tmp_path)[0] == [["#", "#", "#"]]
    assert read("#\tO\n#\ta=b\n", tmp_path)[0] == [["#", "#"]]


def test_words_with_spaces(tmp_path: Path) -> None:
    """Between tabs any; in columns between spaces those that do not break a line."""
    tabs = read("1\u00a0000\tO\nNew York\t_\t B-LOC\t\n", tmp_path)
    assert tabs == ([["1\u00a0000", "New York"]], [["O", "B-LOC"]])
    assert read("1\u00a0000  O\n\u00a0\nb O\n", tmp_path) == ([["1\u00a0000"], ["b"]], [["O"], ["O"]])
    with pytest.raises(InputError, match="line 1: expected a word and its tag"):
        read("New York\t\n", tmp_path)


@pytest.mark.parametrize(
    "text, says",
    [("EU B-ORG\nalone\n", "line 2"), ("-DOCSTART- O\n\n", "no sentences"), ("", "empty")],
)
def test_what_is_no_such_file(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "bad.conll").write_text(text)
    with pytest.raises(InputError, match=says):
        load_rows(tmp_path / "bad.conll")
