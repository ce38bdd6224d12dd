"""Real tokenizers: the same ids as HF's over the whole corpus, as they came and after a round trip."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from biject.inspection import inspect_folder
from biject.tokenization.files import MissingTokenizerError
from biject.tokenization.tokenizer import load_tokenizer
from biject.verify.tokenizers import compare_tokenizers
from parity.real import real_folder

FILES = {
    "all-MiniLM-L6-v2": ("tokenizer.json", "vocab.txt"),
    "bert-tiny-mlm": ("tokenizer.json",),
    "gpt2-bpe": ("vocab.json",),
}
CASES = [(name, vocabulary) for name, vocabularies in FILES.items() for vocabulary in vocabularies]


def hf(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def copy_with(name: str, vocabulary: str, folder: Path) -> Path:
    """The settings of a real folder, with one of its vocabularies."""
    folder.mkdir()
    wanted = {vocabulary, "config.json", "tokenizer_config.json", "special_tokens_map.json", "merges.txt"}
    for path in real_folder(name).iterdir():
        if path.name in wanted:
            shutil.copy(path, folder)
    return folder


@pytest.mark.parametrize("name, vocabulary", CASES)
def test_every_id(name: str, vocabulary: str, tmp_path: Path) -> None:
    came = copy_with(name, vocabulary, tmp_path / "came")
    ours = load_tokenizer(came)
    assert [check for check in compare_tokenizers(ours, hf(came)) if not check.passed] == []
    ours.save(tmp_path / "saved")
    shutil.copy(came / "config.json", tmp_path / "saved")
    assert [check for check in compare_tokenizers(ours, hf(tmp_path / "saved")) if not check.passed] == []


@pytest.mark.parametrize("name, vocabulary", CASES)
def test_every_id_with_added_tokens(name: str, vocabulary: str, tmp_path: Path) -> None:
    came = copy_with(name, vocabulary, tmp_path / "came")
    ours = load_tokenizer(came)
    ours.add_tokens(["quick brown", "[unused0]", "ﬁ"])
    ours.add_special_tokens({"pad_token": "<padding>"})
    ours.save(tmp_path / "saved")
    shutil.copy(came / "config.json", tmp_path / "saved")
    assert [check for check in compare_tokenizers(ours, hf(tmp_path / "saved")) if not check.passed] == []


def test_what_hf_would_make_up_is_refused(tmp_path: Path) -> None:
    """rxnmapper's vocab.txt is not what an ALBERT's tokenizer is built from: HF makes one of 5 tokens."""
    folder = real_folder("rxnmapper-albert")
    assert len(hf(folder)) == 5
    with pytest.raises(
        MissingTokenizerError, match=r"AlbertTokenizer is built from .* spiece\.model.*vocab\.txt"
    ):
        load_tokenizer(folder)
    assert any("the tokenizer cannot be used" in oddity for oddity in inspect_folder(folder).oddities)
    named = Path(shutil.copytree(folder, tmp_path / "named"))
    (named / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    ours = load_tokenizer(named)
    assert len(ours) == 591
    assert [check for check in compare_tokenizers(ours, hf(named)) if not check.passed] == []
