"""Tokenizers of classes that Biject does not know, and those in Python: ids are those of transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import transformers
from tests.fallback.test_runs import run
from tests.fallback.tiny import VOCABULARY, make

from biject.data.features import build_dataset
from biject.data.rows import load_rows
from biject.errors import InputError
from biject.fallback.slow import SlowTokenizer
from biject.fallback.tokenizer import load_fallback_tokenizer
from biject.tokenization.tokenizer import Tokenizer, load_tokenizer

TEXTS = ["the quick brown fox", "is it lost ? no , never", "[MASK] lazy unheardof", "", "a " * 60]


def wordpiece(folder: Path, tokenizer_class: str) -> Path:
    """vocab.txt alone, for a class of transformers that Biject has no recipe of."""
    folder.mkdir()
    words = list(VOCABULARY) + [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
    (folder / "vocab.txt").write_text("\n".join(["<s>", "<pad>", "</s>", "<unk>", "<mask>", *words]) + "\n")
    settings = {"tokenizer_class": tokenizer_class, "model_max_length": 40}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "config.json").write_text(json.dumps({"model_type": "mpnet"}))
    return folder


def characters(folder: Path) -> Path:
    """CANINE's: no files at all."""
    folder.mkdir()
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CanineTokenizer", "model_max_length": 40})
    )
    (folder / "config.json").write_text(json.dumps({"model_type": "canine"}))
    return folder


def codes(folder: Path) -> Path:
    """CTRL's: vocab.json and merges.txt, read in Python."""
    folder.mkdir()
    pieces = [
        "<unk>",
        *"abcdefghijklmnopqrstuvwxyz",
        *(f"{c}@@" for c in "abcdefghijklmnopqrstuvwxyz"),
        "the",
        "th@@",
    ]
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\nt h\nth e</w>\n")
    settings = {"tokenizer_class": "CTRLTokenizer", "pad_token": "<unk>", "model_max_length": 40}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "config.json").write_text(json.dumps({"model_type": "ctrl"}))
    return folder


def both(folder: Path) -> tuple[Tokenizer, Any]:
    config = json.loads((folder / "config.json").read_text())
    return load_fallback_tokenizer(folder, config), transformers.AutoTokenizer.from_pretrained(folder)


def same_ids(ours: Tokenizer, theirs: Any, texts: list[str]) -> None:
    found = ours(texts)
    expected = theirs(texts)
    assert found.input_ids == expected["input_ids"]
    assert found.attention_mask == expected["attention_mask"]
    assert (
        ours(texts, max_length=9, truncation=True).input_ids
        == theirs(texts, max_length=9, truncation=True)["input_ids"]
    )
    pairs = ours(texts, texts[::-1], max_length=20, truncation=True)
    expected = theirs(texts, texts[::-1], max_length=20, truncation=True)
    assert pairs.input_ids == expected["input_ids"]
    if "token_type_ids" in expected:
        assert pairs.token_type_ids == expected["token_type_ids"]
    for row in found.input_ids:
        assert ours.decode(row, clean_up_tokenization_spaces=False) == theirs.decode(
            row, clean_up_tokenization_spaces=False
        )
    assert ours.pad_token_id == theirs.pad_token_id
    assert ours.mask_token_id == theirs.mask_token_id
    assert ours.all_special_ids == theirs.all_special_ids
    assert len(ours) == len(theirs)


def test_a_class_that_only_transformers_has(tmp_path: Path) -> None:
    ours, theirs = both(wordpiece(tmp_path / "t", "MPNetTokenizer"))
    assert not isinstance(ours, SlowTokenizer)
    assert ours.class_name == "MPNetTokenizer"
    same_ids(ours, theirs, TEXTS)
    assert ours(["the fox"]).offsets[0][1:3] == [(0, 3), (4, 7)]


@pytest.mark.parametrize("make_folder", [characters, codes])
def test_tokenizers_in_python(make_folder: Any, tmp_path: Path) -> None:
    ours, theirs = both(make_folder(tmp_path / "t"))
    assert isinstance(ours, SlowTokenizer)
    same_ids(ours, theirs, ["the fox", "lazy", "a b c d e f g h i j k l m n o p"])
    words = [["the", "fox"], ["lazy"]]
    found = ours(words, is_split_into_words=True)
    assert found.input_ids == theirs(words, is_split_into_words=True)["input_ids"]
    for ids, places in zip(found.input_ids, found.word_ids, strict=True):
        assert len(ids) == len(places)
    real = [place for place in found.word_ids[0] if place is not None]
    assert real == sorted(real)
    assert set(real) == {0, 1}
    with pytest.raises(InputError, match="does not know where in a text"):
        _ = found.offsets


def test_windows_of_a_tokenizer_in_python(tmp_path: Path) -> None:
    ours, theirs = both(characters(tmp_path / "t"))
    text = "abcdefghijklmnopqrstuvwxyz"
    rows = ours([text], max_length=12, truncation=True, return_overflowing=True, stride=2)
    inner = [row[1:-1] for row in rows.input_ids]  # CANINE has a token in front and one behind
    assert all(len(row) <= 12 for row in rows.input_ids)
    joined = inner[0] + [token for row in inner[1:] for token in row[2:]]
    assert joined == theirs(text, add_special_tokens=False)["input_ids"]
    assert rows.overflow_to_sample == [0] * len(inner)


def test_lengths_of_a_tokenizer_in_python(tmp_path: Path) -> None:
    """Padding to a length needs no truncation, and what nobody knows is refused as by ours."""
    ours, theirs = both(characters(tmp_path / "t"))
    texts, how = ["ab", "abcdef"], {"padding": "max_length", "max_length": 12}
    assert ours(texts, **how).input_ids == theirs(texts, **how)["input_ids"]
    assert {len(row) for row in ours(texts, padding="max_length").input_ids} == {40}
    for wrong in ({"padding": "longst"}, {"return_tensors": "tf"}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            ours(texts, **wrong)
    for stride in (4, 7):
        with pytest.raises(InputError, match="stride of"):
            ours(["abcdefgh"], max_length=6, truncation=True, return_overflowing=True, stride=stride)
    rows = ours(["abcdefgh"], max_length=6, truncation=True, return_overflowing=True, stride=3)
    assert len(rows.input_ids) == 5


@pytest.mark.slow
def test_padding_of_a_tokenizer_in_python(tmp_path: Path) -> None:
    ours, theirs = both(characters(tmp_path / "t"))
    found, expected = ours(["ab", "abcdef"], padding=True), theirs(["ab", "abcdef"], padding=True)
    assert found.input_ids == expected["input_ids"]
    assert found.attention_mask == expected["attention_mask"]
    assert ours("ab", return_tensors="pt")["input_ids"].tolist() == [theirs("ab")["input_ids"]]


def test_a_known_tokenizer_is_ours(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", "mpnet", "MPNetModel")
    ours = load_fallback_tokenizer(folder, {"model_type": "mpnet"})
    assert ours.class_name == load_tokenizer(folder).class_name == "TokenizersBackend"
    same_ids(ours, transformers.AutoTokenizer.from_pretrained(folder), TEXTS)


def test_a_run_with_a_tokenizer_in_python(write_data: Any, tmp_path: Path) -> None:
    model = make(tmp_path / "m", "canine", "CanineModel")
    (model / "tokenizer.json").unlink()
    characters(tmp_path / "t")
    (model / "tokenizer_config.json").write_bytes((tmp_path / "t" / "tokenizer_config.json").read_bytes())
    for task in ("seqcls", "tokcls"):
        data = write_data(tmp_path / "data", task)
        done, _ = run(tmp_path / task, model, data, task)
        assert done.passed
    with pytest.raises(InputError, match="`task` is qa, which needs to know where"):
        run(tmp_path / "qa", model, write_data(tmp_path / "data", "qa"), "qa")


def test_masked_words_need_a_mask(write_data: Any, tmp_path: Path) -> None:
    ours, _ = both(codes(tmp_path / "t"))
    rows = load_rows(str(write_data(tmp_path, "mlm")))
    with pytest.raises(InputError, match="needs a mask token"):
        build_dataset(rows, "mlm", ours)


def test_one_in_python_takes_roles(tmp_path: Path) -> None:
    came = codes(tmp_path / "came")
    ours, theirs = both(came)
    for tokenizer in (ours, theirs):
        tokenizer.eos_token, tokenizer.pad_token_id = "the", 3
    assert (ours.eos_token_id, ours.pad_token) == (theirs.eos_token_id, theirs.pad_token)
    assert {**ours(["the", "a b"], padding=True)}["input_ids"] == theirs(["the", "a b"], padding=True)[
        "input_ids"
    ]
    ours.save(tmp_path / "saved")
    (tmp_path / "saved" / "config.json").write_bytes((came / "config.json").read_bytes())
    again, read = both(tmp_path / "saved")
    assert (again.eos_token, again.pad_token) == (read.eos_token, read.pad_token) == ("the", ours.pad_token)
