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


@pytest.mark.parametrize(
    "text, says",
    [("EU B-ORG\nalone\n", "line 2"), ("-DOCSTART- O\n\n", "no sentences"), ("", "empty")],
)
def test_what_is_no_such_file(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "bad.conll").write_text(text)
    with pytest.raises(InputError, match=says):
        load_rows(tmp_path / "bad.conll")
