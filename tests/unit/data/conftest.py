"""A small WordPiece tokenizer: some words, every letter."""

from __future__ import annotations

import json
import string
from pathlib import Path

import pytest

from biject.tokenization.tokenizer import Tokenizer, load_tokenizer

WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog", "berlin", "capital", "good", "bad")
LETTERS = string.ascii_lowercase + string.digits


def write_wordpiece(folder: Path, **options: object) -> Path:
    """A BERT tokenizer's files."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.punctuation, *LETTERS]
    tokens += [f"##{letter}" for letter in LETTERS] + list(WORDS)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", **options}))
    return folder


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load_tokenizer(write_wordpiece(tmp_path_factory.mktemp("wordpiece")))


def write_letters(folder: Path, *tokens: str, **options: object) -> Path:
    """A GPT-2 tokenizer of one token a byte, with further tokens; `<|endoftext|>` comes first."""
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: index for index, token in enumerate(("<|endoftext|>", *letters))}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    added = {"0": "<|endoftext|>", **{str(len(vocab) + i): token for i, token in enumerate(tokens)}}
    decoder = {
        index: {"content": token, "special": True, "lstrip": False, "rstrip": False, "normalized": False,
                "single_word": False}
        for index, token in added.items()
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": decoder, **options}))
    return folder


@pytest.fixture(scope="session")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load_tokenizer(write_letters(tmp_path_factory.mktemp("letters")))
