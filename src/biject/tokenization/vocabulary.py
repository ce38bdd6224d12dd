"""Vocabularies: tokens and ids, scores or merges, from any of the files that have them.

Source: `TokenizersBackend.convert_to_native_format` and `SentencePieceExtractor`, transformers 5.23.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import AddedToken
from tokenizers.models import BPE, WordPiece

from biject.checkpoint.strict_json import shown
from biject.errors import CheckpointError
from biject.tokenization.library import library_errors
from biject.tokenization.spm import CONTROL, UNIGRAM, USER_DEFINED, SentencePieceModel, read_model


@dataclass(kw_only=True)
class Vocabulary:
    """What a model of the `tokenizers` library is made of.

    Attributes:
        ids: tokens and ids (WordPiece, BPE).
        merges: pairs in the order in which they are merged (BPE).
        scores: tokens with log probabilities in the order of their ids (Unigram).
        unk_id: the unknown token, where a SentencePiece model names it.
        charsmap: SentencePiece's compiled normalization.
        control: tokens that a SentencePiece model sets apart.
        proto: the SentencePiece model itself.
    """

    ids: dict[str, int] = field(default_factory=dict)
    merges: list[tuple[str, str]] = field(default_factory=list)
    scores: list[tuple[str, float]] = field(default_factory=list)
    unk_id: int | None = None
    charsmap: bytes = b""
    control: list[str | AddedToken] | None = None
    proto: SentencePieceModel | None = None

    @property
    def highest_id(self) -> int:
        """No token has a higher one; -1 where there are no tokens."""
        return max(max(self.ids.values(), default=-1), len(self.scores) - 1)


def from_wordpiece(path: Path) -> Vocabulary:
    """`vocab.txt`: a token a line."""
    with library_errors(CheckpointError, f"{path} must have one token a line in UTF-8"):
        return Vocabulary(ids=WordPiece.read_file(str(path)))


def from_bpe(vocab: Path, merges: Path) -> Vocabulary:
    """`vocab.json` (token → id) and `merges.txt` (two tokens a line)."""
    with library_errors(CheckpointError, f"{vocab} must map tokens to ids, {merges.name} have two a line"):
        ids, pairs = BPE.read_file(str(vocab), str(merges))
    return Vocabulary(ids=ids, merges=pairs)


def from_serialized(serialized: Mapping[str, Any], *, unigram: bool, where: str) -> Vocabulary:
    """The vocabulary of a tokenizer.json."""
    model = serialized.get("model")
    entries = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(model, dict) or not (isinstance(entries, dict | list) and entries):
        raise CheckpointError(f"{where} must have `model` with a `vocab` that has tokens; this one has none.")
    with library_errors(CheckpointError, f"{where} has no valid vocabulary"):
        if unigram:
            if not isinstance(entries, list):
                raise TypeError("Unigram needs a list of tokens and scores")
            return Vocabulary(
                scores=[(text, float(score)) for text, score in entries], charsmap=_charsmap(serialized)
            )
        if isinstance(entries, list):
            entries = {item[0] if isinstance(item, list) else item: i for i, item in enumerate(entries)}
        pairs = model.get("merges") or []
        return Vocabulary(
            ids=entries,
            merges=[tuple(pair.split(" ") if isinstance(pair, str) else pair) for pair in pairs],
        )


def highest_serialized(serialized: Mapping[str, Any]) -> int | None:
    """The highest id in the vocabulary of a tokenizer.json that is used as it is; None where it has no
    vocabulary that declares it.
    """
    model = serialized.get("model")
    entries = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(entries, dict) and all(type(index) is int for index in entries.values()):
        return max(entries.values(), default=-1)
    return len(entries) - 1 if isinstance(entries, list) else None


def _charsmap(serialized: Mapping[str, Any]) -> bytes:
    normalizer = serialized.get("normalizer")
    if not isinstance(normalizer, dict):
        return b""
    steps = normalizer.get("normalizers") if normalizer.get("type") == "Sequence" else [normalizer]
    for step in steps if isinstance(steps, list) else []:
        if isinstance(step, dict) and step.get("type") == "Precompiled" and "precompiled_charsmap" in step:
            try:
                return base64.b64decode(step["precompiled_charsmap"])
            except (binascii.Error, TypeError, ValueError) as error:
                raise CheckpointError(
                    f"tokenizer.json: `precompiled_charsmap` must be base64, found "
                    f"{shown(step['precompiled_charsmap'])}."
                ) from error
    return b""


def from_sentencepiece(path: Path, *, unigram: bool | None) -> Vocabulary:
    """A SentencePiece model, read as Unigram or BPE; None: as it declares."""
    proto = read_model(path)
    vocab = Vocabulary(
        unk_id=proto.unk_id,
        charsmap=proto.charsmap,
        control=[
            AddedToken(piece.text, normalized=False, special=piece.type == CONTROL)
            for piece in proto.pieces
            if piece.type in (CONTROL, USER_DEFINED)
        ],
        proto=proto,
    )
    if proto.model_type == UNIGRAM if unigram is None else unigram:
        vocab.scores = proto.vocab
    else:
        vocab.ids = {text: index for index, (text, _) in enumerate(proto.vocab)}
        vocab.merges = merges_of(vocab.ids)
    return vocab


def merges_of(ids: Mapping[str, int]) -> list[tuple[str, str]]:
    """The merges that a BPE vocabulary implies: every cut of a token into two others, by the token's id
    (`generate_merges` in tokenization_utils_base.py, transformers 5.23).
    """
    found = []
    for token, rank in ids.items():
        cuts = [(token[:at], token[at:]) for at in range(1, len(token))]
        pairs = [(left, right) for left, right in cuts if left in ids and right in ids]
        pairs.sort(key=lambda pair: (ids[pair[0]], ids[pair[1]]))
        found += [(rank, len(left), len(right), left, right) for left, right in pairs]
    found.sort(key=lambda merge: merge[:3])
    return [(left, right) for _, _, _, left, right in found]


def fairseq_order(vocab: Vocabulary, head: list[tuple[str, float]], *, drop: int, mask: str) -> Vocabulary:
    """Put fairseq's special tokens before the pieces, whose first `drop` go, and the mask after them."""
    vocab.scores = [*head, *vocab.scores[drop:], (mask, 0.0)]
    return vocab


def rename(vocab: Vocabulary, added: Mapping[int, AddedToken]) -> Vocabulary:
    """Give placeholders of a BPE vocabulary the names that tokenizer_config.json has for their ids."""
    texts = {index: text for text, index in vocab.ids.items()}
    for index, token in added.items():
        old = texts.get(index)
        if old is not None and old != token.content and token.content not in vocab.ids:
            vocab.ids[token.content] = vocab.ids.pop(old)
            texts[index] = token.content
    return vocab
