"""Whether a tokenizer fits a model: no id is overlooked, whatever kind of vocabulary hides it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import models

from biject.errors import ConfigError
from biject.tokenization.fit import check_fits
from biject.tokenization.tokenizer import Tokenizer, load_tokenizer

HIGH = 5000
GAPPED = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "far": HIGH}
ANGLES = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": 4, "far": HIGH}


def lines(folder: Path) -> str:
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "fox"]) + "\n")
    return "bert"


def serialized_wordpiece(folder: Path) -> str:
    Backend(models.WordPiece(GAPPED, unk_token="[UNK]")).save(str(folder / "tokenizer.json"))
    return "bert"


def byte_pairs(folder: Path) -> str:
    (folder / "vocab.json").write_text(json.dumps(ANGLES))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return "roberta"


def generic_words(folder: Path) -> str:
    Backend(models.WordLevel(GAPPED, unk_token="[UNK]")).save(str(folder / "tokenizer.json"))
    return "modernbert"


def generic_unigram(folder: Path) -> str:
    pieces = [("<unk>", 0.0), *((f"piece{index}", -1.0) for index in range(40))]
    Backend(models.Unigram(pieces, unk_id=0)).save(str(folder / "tokenizer.json"))
    return "modernbert"


def added(folder: Path) -> str:
    extra = [f"[EXTRA{index}]" for index in range(20)]
    (folder / "tokenizer_config.json").write_text(json.dumps({"additional_special_tokens": extra}))
    return lines(folder)


MAKERS = (lines, serialized_wordpiece, byte_pairs, generic_words, generic_unigram, added)


@pytest.fixture(params=MAKERS, ids=lambda make: make.__name__)
def tokenizer(request: pytest.FixtureRequest, tmp_path: Path) -> Tokenizer:
    make: Callable[[Path], str] = request.param
    return load_tokenizer(tmp_path, {"model_type": make(tmp_path)})


def test_the_highest_id_is_the_vocabularys(tokenizer: Tokenizer) -> None:
    assert tokenizer.highest_id == max(tokenizer.vocab.values())
    tokenizer.add_tokens(["one more", "and another"])
    assert tokenizer.highest_id == max(tokenizer.vocab.values())


def test_one_row_too_few_is_found(tokenizer: Tokenizer) -> None:
    highest = max(tokenizer.vocab.values())
    check_fits(tokenizer, {"vocab_size": highest + 1})
    with pytest.raises(ConfigError, match=rf"1 tokens, from .* \(id {highest}\) on, have none"):
        check_fits(tokenizer, {"vocab_size": highest})


@pytest.mark.parametrize("make", [serialized_wordpiece, byte_pairs, generic_words], ids=lambda m: m.__name__)
def test_few_tokens_and_one_far_beyond_do_not_fit(make: Callable[[Path], str], tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tmp_path, {"model_type": make(tmp_path)})
    assert len(tokenizer) < 20
    with pytest.raises(ConfigError, match=rf"1 tokens, from 'far' \(id {HIGH}\) on"):
        check_fits(tokenizer, {"vocab_size": 100})


def test_nothing_is_listed_where_everything_fits(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listed(_: Any) -> dict[str, int]:
        raise AssertionError("the vocabulary was listed")

    monkeypatch.setattr(Tokenizer, "vocab", property(listed))
    check_fits(tokenizer, {"vocab_size": 2 * HIGH})
    with pytest.raises(AssertionError, match="was listed"):
        check_fits(tokenizer, {"vocab_size": 3})


def test_a_vocabulary_that_was_not_looked_up_is_listed(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tmp_path, {"model_type": serialized_wordpiece(tmp_path)})
    tokenizer._parts.highest_id = None
    assert tokenizer.highest_id == HIGH
