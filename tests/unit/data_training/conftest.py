"""A small WordPiece tokenizer: some words, every letter."""

from __future__ import annotations

import json
import string
from pathlib import Path

import pytest

from biject.data.tokenizer import Tokenizer, load_tokenizer

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
