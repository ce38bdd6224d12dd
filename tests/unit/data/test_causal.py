"""Texts for a causal model: pieces, blocks, end of text; every token is learned once."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from biject.data.blocks import CausalDataset, PackedDataset, cut, documents, group
from biject.data.dataset import Built
from biject.data.features import build_dataset
from biject.data.rows import load_rows
from biject.errors import InputError
from biject.tokenization.tokenizer import Tokenizer, load_tokenizer

from .conftest import write_letters, write_wordpiece

END = 0


def build(tokenizer: Tokenizer, texts: list[Any], **options: Any) -> Built:
    return build_dataset([{"text": text} for text in texts], "causal", tokenizer, **options)


def learned(built: Built) -> list[int]:
    """What the loss counts, in order: a row's first token is never predicted."""
    pieces = built.dataset.pieces if isinstance(built.dataset, PackedDataset) else built.dataset
    return [label for sample in pieces[:] for label in sample["labels"][1:] if label != -100]


def test_a_text_and_its_end(letters: Tokenizer) -> None:
    built = build(letters, ["fox", "a", "  ", "the dog<|endoftext|>"])
    samples = built.dataset[:]
    assert [letters.decode(sample["input_ids"]) for sample in samples] == [
        "fox<|endoftext|>", "a<|endoftext|>", "the dog<|endoftext|>",
    ]  # fmt: skip
    assert [sample["labels"] for sample in samples] == [sample["input_ids"] for sample in samples]
    assert built.dataset.rows == [0, 1, 3]
    assert built.dataset.lengths == [4, 2, 8]
    assert "1 empty texts are left out" in built.report.lines()


@pytest.mark.parametrize("packing", [False, True])
@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(
        st.text(alphabet="abc ", min_size=1, max_size=30).filter(str.strip), min_size=1, max_size=8
    ),
    limit=st.integers(2, 12),
)
def test_every_token_but_a_texts_first_is_learned_once(
    letters: Tokenizer, packing: bool, texts: list[str], limit: int
) -> None:
    built = build(letters, texts, max_length=limit, packing=packing)
    wanted = [[*row, END] for row in letters(texts).input_ids]
    assert learned(built) == [token for row in wanted for token in row[1:]]
    assert max(built.dataset.lengths) <= limit
    if packing:  # only where a text would begin with a single token is a block's last place empty
        assert min(built.dataset.lengths[:-1], default=limit) >= limit - 1


@settings(max_examples=100, deadline=None)
@given(
    texts=st.lists(
        st.text(alphabet="abc ", min_size=1, max_size=30).filter(str.strip), min_size=1, max_size=8
    ),
    shared=st.integers(1, 8),
    more=st.integers(1, 8),
)
@example(texts=["abcabcabc", "abc"], shared=8, more=8)
def test_blocks_hold_every_token_and_again_what_pieces_share(
    letters: Tokenizer, texts: list[str], shared: int, more: int
) -> None:
    limit = shared + more
    built = build(letters, texts, max_length=limit, packing=True, stride=shared)
    wanted = [[*row, END] for row in letters(texts).input_ids]
    assert isinstance(built.dataset, PackedDataset)
    pieces = built.dataset.pieces
    assert documents(built.dataset[:]) == pieces[:]
    for row, ids in enumerate(wanted):
        own = [piece["input_ids"] for piece, origin in zip(pieces, pieces.rows, strict=True) if origin == row]
        assert own[0] + [token for piece in own[1:] for token in piece[shared:]] == ids
        assert all(after[:shared] == before[-shared:] for before, after in pairwise(own))
    assert learned(built) == [token for row in wanted for token in row[1:]]
    lengths = built.dataset.lengths
    assert max(lengths) <= limit
    assert min(lengths[:-1], default=limit) >= limit - shared  # less than that is no room for a piece


def test_pieces_share_more_when_asked(letters: Tokenizer) -> None:
    built = build(letters, ["abcdefgh"], max_length=4, stride=2)
    assert [letters.decode(s["input_ids"]) for s in built.dataset] == [
        "abcd",
        "cdef",
        "efgh",
        "gh<|endoftext|>",
    ]
    assert [s["labels"][:2] for s in built.dataset][1:] == [[-100, -100]] * 3
    assert letters.decode(learned(built)) == "bcdefgh<|endoftext|>"
    assert "1 texts are read in 4 pieces of up to 4 tokens" in built.report.lines()
    for stride in (0, 4):
        with pytest.raises(InputError, match=f"stride: .* below the limit of 4; found {stride}"):
            build(letters, ["abcdefgh"], max_length=4, stride=stride)


def test_cutting_is_told(letters: Tokenizer) -> None:
    built = build(letters, ["abcdef", "abc"], max_length=4, pieces=False)
    assert [letters.decode(s["input_ids"]) for s in built.dataset] == ["abcd", "abc<|endoftext|>"]
    assert (
        "1 texts have more than 4 tokens and are cut there: 3 tokens (27.3 %) are lost"
        in built.report.lines()
    )
    with pytest.raises(
        InputError, match="row 1, column `text`: the text has 7 tokens, more than the limit of 4"
    ):
        build(letters, ["abcdef"], max_length=4, pieces=False, truncate=False)


def test_no_end_of_text(letters: Tokenizer, tmp_path: Path) -> None:
    built = build(letters, ["ab", "c"], end_of_text=False)
    assert [letters.decode(s["input_ids"]) for s in built.dataset] == ["ab"]
    assert "1 texts of a single token are left out: there is no token to predict" in built.report.lines()
    with pytest.raises(InputError, match="no text has two tokens"):
        build(letters, ["c"], end_of_text=False)
    bare = load_tokenizer(write_wordpiece(tmp_path))
    with pytest.raises(
        InputError, match=r"tokenizer has none\. Name one as `eos_token`.*end_of_text = false"
    ):
        build(bare, ["the fox"])
    assert len(build(bare, ["the fox"], end_of_text=False).dataset[0]["input_ids"]) == 4


def test_blocks_keep_documents_apart(letters: Tokenizer) -> None:
    built = build(letters, ["abcd", "ef", "ghijklmnop"], max_length=10, packing=True)
    first, second = built.dataset[:]
    assert letters.decode(first["input_ids"]) == "abcd<|endoftext|>ef<|endoftext|>gh"
    assert first["document_lengths"] == [5, 3, 2]
    assert first["position_ids"] == [0, 1, 2, 3, 4, 0, 1, 2, 0, 1]
    assert letters.decode(second["input_ids"]) == "hijklmnop<|endoftext|>"
    assert second["labels"][0] == -100
    assert built.dataset.lengths == [10, 10]
    assert built.dataset.rows == [0, 2]
    rows = documents([first, second])
    pieces = built.dataset.pieces  # type: ignore[attr-defined]
    assert isinstance(pieces, CausalDataset)
    assert rows == pieces[:]
    assert [len(row["input_ids"]) for row in rows] == [5, 3, 2, 10]
    assert "4 documents in 2 blocks of 10 tokens, which are 100.0 % full" in built.report.lines()
    with pytest.raises(InputError, match="packing needs max_length"):
        build(letters, ["abcd"], packing=True)


@given(
    length=st.integers(1, 60), limit=st.integers(2, 12), shared=st.integers(1, 11), room=st.integers(2, 12)
)
def test_pieces_cover_a_text(length: int, limit: int, shared: int, room: int) -> None:
    if shared >= min(limit, room):
        return
    parts = list(cut(length, limit, shared=shared, room=min(room, limit)))
    assert parts[0].start == 0
    assert parts[-1].stop == length
    assert all(b.start == a.stop - shared for a, b in pairwise(parts))
    assert all(len(part) <= limit for part in parts)


@given(st.lists(st.integers(1, 9), max_size=30))
def test_groups_are_neighbours_that_fit(lengths: list[int]) -> None:
    groups = group(lengths, 10)
    assert [i for one in groups for i in one] == list(range(len(lengths)))
    totals = [sum(lengths[i] for i in one) for one in groups]
    assert all(total <= 10 for total in totals)
    assert all(total + lengths[after.start] > 10 for total, after in zip(totals, groups[1:], strict=False))


def test_bad_texts(letters: Tokenizer) -> None:
    for rows, part in (
        ([{"text": 3}], "row 1, column `text`: expected a text, found 3"),
        ([{"text": ""}], "only empty ones"),
        ([{"text": "\ud800"}], "half of a surrogate pair"),
        ([{"words": "a"}], "expected `text`; or `messages` .*; or `prompt` and `response`"),
    ):
        with pytest.raises(InputError, match=part):
            build_dataset(rows, "causal", letters)


@pytest.mark.parametrize(
    ("unit", "texts", "lines"),
    [
        ("line", ["one", "two", "three", "four"], [2, 3, 6, 7]),
        ("paragraph", ["one\ntwo", "three\nfour"], [2, 6]),
        ("document", ["one\ntwo\n\n \nthree\nfour"], [2]),
    ],
)
def test_units_of_plain_text(tmp_path: Path, unit: Any, texts: list[str], lines: list[int]) -> None:
    path = tmp_path / "book.txt"
    path.write_bytes(b"\r\none\r\ntwo\r\n\r\n \r\nthree\r\nfour\r\n\r\n")
    rows = load_rows(path, sample_by=unit)
    if unit == "line":
        assert rows.column("text") == texts
        assert list(rows.numbers) == [2, 3, 6, 7]
    else:
        assert rows.column("text") == texts
        assert list(rows.numbers) == lines
    (tmp_path / "rows.csv").write_text("text\na\n")
    if unit != "line":
        with pytest.raises(InputError, match=r"sample_by has a meaning for \.txt files only"):
            load_rows(tmp_path / "rows.csv", sample_by=unit)


def test_special_tokens_of_the_tokenizer_stay(tmp_path: Path) -> None:
    """A tokenizer that ends its texts itself gives them no second end."""
    both = load_tokenizer(write_wordpiece(tmp_path, bos_token="[CLS]", eos_token="[SEP]"))
    (sample,) = build(both, ["the fox"]).dataset
    assert both.convert_ids_to_tokens(sample["input_ids"]) == ["[CLS]", "the", "fox", "[SEP]"]


def test_letters_are_what_they_say(tmp_path: Path) -> None:
    own = load_tokenizer(write_letters(tmp_path, "<|im_end|>"))
    assert own.eos_token_id == END
    assert len(own(["ab<|im_end|>"]).input_ids[0]) == 3
