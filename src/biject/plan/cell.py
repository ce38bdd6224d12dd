"""A cell of the contract: one way of fine-tuning one checkpoint on one machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from biject.config.recipe import FinetuneTask, Precision
from biject.families import ALL_HEADS, families

Method = Literal["full", "lora", "qlora"]
Quantization = Literal["none", "nf4", "fp4", "int8"]
TokenizerKind = Literal["tokenizer.json", "wordpiece", "byte-bpe", "sentencepiece", "none"]
"""The file that the tokenizer is built from: tokenizer.json, or vocab.txt, vocab.json with merges.txt, a
SentencePiece model."""

Lack = Literal["device", "bitsandbytes", "mask token", "pad_token_id"]
"""What the machine or the checkpoint does not have, of what some cells need."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One way of fine-tuning.

    Attributes:
        method: Train every parameter, or an adapter beside a frozen base, which `qlora` quantises.
        family: config.json's `model_type`.
        head: The checkpoint's own head.
        device: `cpu`, `cuda`, or another of torch's.
        precision: What is computed in.
        quantization: What the base's matrices are stored in.
        tokenizer: The file that it is built from.
        task: The head that is trained.
        lacks: What is needed by some cells and not there.
    """

    method: Method = "full"
    family: str
    head: str = "base"
    device: str = "cpu"
    precision: Precision = "fp32"
    quantization: Quantization = "none"
    tokenizer: TokenizerKind = "tokenizer.json"
    task: FinetuneTask = "seqcls"
    lacks: frozenset[Lack] = frozenset()


def axes() -> dict[str, tuple[str, ...]]:
    """Every axis of the contract with its values, in the order of tables."""
    return {
        "method": get_args(Method),
        "family": tuple(families()),
        "head": ALL_HEADS,
        "device": ("cpu", "cuda", "other"),
        "precision": get_args(Precision),
        "quantization": get_args(Quantization),
        "tokenizer": get_args(TokenizerKind),
        "task": get_args(FinetuneTask),
    }
