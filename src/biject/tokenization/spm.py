"""SentencePiece models, read without the sentencepiece package: the few fields of `ModelProto` that
tokenizers are built from.

Source: sentencepiece_model.proto of google/sentencepiece 0.2; protobuf's wire format. Unknown
fields are skipped, absent ones have the defaults of the .proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from biject.checkpoint.strict_json import read_small_file
from biject.errors import CheckpointError

UNIGRAM, BPE = 1, 2
CONTROL, USER_DEFINED = 3, 4
_MODELS = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One token: its text, log probability (or merge rank), and type."""

    text: str
    score: float = 0.0
    type: int = 1


@dataclass(kw_only=True)
class SentencePieceModel:
    """The content of a `.model` file."""

    pieces: list[Piece] = field(default_factory=list)
    model_type: int = UNIGRAM
    byte_fallback: bool = False
    unk_id: int = 0
    bos_id: int = 1
    eos_id: int = 2
    unk_piece: str = "<unk>"
    bos_piece: str = "<s>"
    eos_piece: str = "</s>"
    charsmap: bytes = b""
    """The compiled normalization rules."""

    @property
    def special(self) -> dict[str, str]:
        """The special tokens that the model has, by role."""
        named = {
            "bos_token": (self.bos_id, self.bos_piece or "<s>"),
            "eos_token": (self.eos_id, self.eos_piece or "</s>"),
            "unk_token": (self.unk_id, self.unk_piece or "<unk>"),
        }
        return {role: text for role, (index, text) in named.items() if index >= 0}

    @property
    def vocab(self) -> list[tuple[str, float]]:
        """Pieces and scores, in the order of their ids."""
        return [(piece.text, piece.score) for piece in self.pieces]


_TRAINER_INTS = {3: "model_type", 40: "unk_id", 41: "bos_id", 42: "eos_id"}
_TRAINER_TEXTS = {45: "unk_piece", 46: "bos_piece", 47: "eos_piece"}


def read_model(path: Path) -> SentencePieceModel:
    """Read a SentencePiece model.

    Raises:
        CheckpointError: It is damaged, none, or of a kind that has no tokenizer here (word, char).
    """
    data = read_small_file(path, what=path.name)
    model = SentencePieceModel()
    try:
        for number, value in _fields(data):
            if number == 1 and isinstance(value, bytes):
                model.pieces.append(_piece(value))
            elif number == 2 and isinstance(value, bytes):
                _trainer(model, value)
            elif number == 3 and isinstance(value, bytes):
                model.charsmap = next((v for n, v in _fields(value) if n == 2 and isinstance(v, bytes)), b"")
    except (ValueError, IndexError, struct.error, UnicodeDecodeError) as error:
        _refuse(path, f"it is damaged ({error})")
    if not model.pieces:
        _refuse(path, "it has no pieces")
    if model.model_type not in (UNIGRAM, BPE):
        _refuse(path, f"its type is {_MODELS.get(model.model_type, model.model_type)}")
    return model


def _refuse(path: Path, why: str) -> NoReturn:
    raise CheckpointError(
        f"{path} must be a SentencePiece model of type unigram or bpe, but {why}. Fetch the file again."
    )


def _piece(data: bytes) -> Piece:
    text, score, kind = "", 0.0, 1
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            text = value.decode("utf-8")
        elif number == 2 and isinstance(value, float):
            score = value
        elif number == 3 and isinstance(value, int):
            kind = value
    return Piece(text=text, score=score, type=kind)


def _trainer(model: SentencePieceModel, data: bytes) -> None:
    for number, value in _fields(data):
        if number in _TRAINER_INTS and isinstance(value, int):
            setattr(model, _TRAINER_INTS[number], _signed(value))
        elif number in _TRAINER_TEXTS and isinstance(value, bytes):
            setattr(model, _TRAINER_TEXTS[number], value.decode("utf-8"))
        elif number == 35 and isinstance(value, int):
            model.byte_fallback = bool(value)


def _signed(value: int) -> int:
    """An int32 field: negative numbers are written in 64 bits of two's complement."""
    return value - (1 << 64) if value >> 63 else value


def _fields(data: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """The fields of one message: varints as int, 32-bit numbers as float, the rest as bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
        elif wire == 5:
            yield number, float(struct.unpack_from("<f", data, at)[0])
            at += 4
        elif wire in (1, 2):
            size, at = (8, at) if wire == 1 else _varint(data, at)
            if at + size > len(data):
                raise ValueError(f"field {number} ends beyond the file")
            yield number, data[at : at + size]
            at += size
        else:
            raise ValueError(f"wire type {wire}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
