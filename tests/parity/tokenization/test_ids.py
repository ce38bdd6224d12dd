"""Biject's tokenizers and HF's on the same folder: every id over the corpus, for every kind of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken

from biject.errors import BijectError
from biject.tokenization.tokenizer import Tokenizer, load_tokenizer
from biject.verify.tokenizers import compare_tokenizers

from .cases import CASES


def hf(folder: Path) -> Any:
    """What HF makes of a folder."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def assert_equal(ours: Tokenizer, theirs: Any) -> None:
    """Every part of the corpus gives the same."""
    failed = [
        f"{check.name}: {check.detail}" for check in compare_tokenizers(ours, theirs) if not check.passed
    ]
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("name", CASES)
def test_as_the_files_lie(name: str, tmp_path: Path) -> None:
    CASES[name](tmp_path)
    assert_equal(load_tokenizer(tmp_path), hf(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if name != "serialized and versioned"])
def test_as_hf_saves_it(name: str, tmp_path: Path) -> None:
    CASES[name](tmp_path / "came")
    theirs = hf(tmp_path / "came")
    theirs.save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / "config.json").write_bytes((tmp_path / "came" / "config.json").read_bytes())
    assert_equal(load_tokenizer(tmp_path / "saved"), hf(tmp_path / "saved"))


@pytest.mark.parametrize("name", CASES)
def test_saved_as_it_came(name: str, tmp_path: Path) -> None:
    CASES[name](tmp_path / "came")
    load_tokenizer(tmp_path / "came").save(tmp_path / "saved")
    came = {path.relative_to(tmp_path / "came") for path in (tmp_path / "came").rglob("*") if path.is_file()}
    left = {Path("config.json"), *([Path("tokenizer.json")] if "versioned" in name else [])}
    for path in came - left:
        assert (tmp_path / "saved" / path).read_bytes() == (tmp_path / "came" / path).read_bytes()


@pytest.mark.parametrize("name", CASES)
def test_saved_with_added_tokens(name: str, tmp_path: Path) -> None:
    CASES[name](tmp_path / "came")
    ours, theirs = load_tokenizer(tmp_path / "came"), hf(tmp_path / "came")
    plain = ["token of ours", AddedToken("SHOUT", lstrip=True, single_word=True), "the"]
    special = [AddedToken("<|new|>", special=True)]
    for tokenizer in (ours, theirs):
        tokenizer.add_tokens(plain)
        tokenizer.add_special_tokens({"pad_token": "<|our pad|>"})
    ours.add_tokens(special, special=True)
    theirs.add_tokens(special, special_tokens=True)
    assert_equal(ours, theirs)
    ours.save(tmp_path / "saved")
    (tmp_path / "saved" / "config.json").write_bytes((tmp_path / "came" / "config.json").read_bytes())
    again = load_tokenizer(tmp_path / "saved")
    assert_equal(again, hf(tmp_path / "saved"))
    assert again.vocab == ours.vocab
    assert again.all_special_tokens == ours.all_special_tokens
    probe = "a token of ours, SHOUT SHOUTING <|new|> the<|our pad|>"
    assert again([probe]).input_ids == ours([probe]).input_ids


def test_a_versioned_file_that_is_missing_is_not_replaced(tmp_path: Path) -> None:
    CASES["serialized and versioned"](tmp_path)
    (tmp_path / "tokenizer.4.0.0.json").unlink()
    with pytest.raises(BijectError, match=r"tokenizer\.4\.0\.0\.json"):
        load_tokenizer(tmp_path)
    with pytest.raises(ValueError, match="Couldn't instantiate"):
        hf(tmp_path)
