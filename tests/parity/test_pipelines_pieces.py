"""Pipelines equal HF's where a tokenizer's pieces are not words (byte-level BPE, Unigram) and in narrow
dtypes; progress.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from biject import pipeline
from biject.events import Notice, Progress, listening
from parity.test_answer import assert_answers, reference_answers
from parity.test_pipelines import (
    AGGREGATIONS,
    NER,
    SENTENCES,
    assert_close,
    assert_same,
    hf,
    masked,
    one_by_one,
)

Make = Callable[..., Path]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
VOCABULARY = 420
KINDS = ("bpe", "unigram")


def write_pieces(folder: Path, kind: str) -> None:
    """Replace a reference folder's tokenizer by one trained here."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    trainer: Any
    if kind == "bpe":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=VOCABULARY, special_tokens=SPECIAL, initial_alphabet=alphabet
        )
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=80, special_tokens=SPECIAL, unk_token="<unk>")
    tokenizer.train_from_iterator([*SENTENCES, "the politics of tokenised capitals"] * 4, trainer)
    ends = [("</s>", tokenizer.token_to_id("</s>")), ("<s>", tokenizer.token_to_id("<s>"))]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=ends
    )
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["model_max_length"] = 60
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


@pytest.fixture
def pieces(reference: Make) -> Callable[[str, str], Path]:
    def make(head: str, kind: str) -> Path:
        overrides = {"vocab_size": VOCABULARY, **(NER if head == "tokcls" else {})}
        folder = reference("roberta", head, overrides=overrides)
        write_pieces(folder, kind)
        return folder

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_fill_mask(kind: str, pieces: Callable[[str, str], Path]) -> None:
    folder = pieces("mlm", kind)
    texts = masked([SENTENCES[0], SENTENCES[2], "They were in São Paulo or 北京!", "rained"], "<mask>")
    expected = one_by_one(hf("fill-mask", folder), texts)
    assert_close(pipeline(folder)(texts), expected)
    assert_same(pipeline(folder, batch_size=1)(texts), expected)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_tag(kind: str, aggregation: str, pieces: Callable[[str, str], Path]) -> None:
    folder = pieces("tokcls", kind)
    theirs = hf("token-classification", folder)
    expected = one_by_one(theirs, SENTENCES, aggregation_strategy=aggregation)
    assert sum(map(len, expected)) > 10
    assert_close(pipeline(folder)(list(SENTENCES), aggregation=aggregation), expected)
    if aggregation != "none":
        expected = one_by_one(theirs, SENTENCES, aggregation_strategy=aggregation, stride=9)
        assert_close(pipeline(folder)(list(SENTENCES), aggregation=aggregation, stride=9), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_answer(kind: str, pieces: Callable[[str, str], Path]) -> None:
    folder = pieces("qa", kind)
    item = {"question": "Where?", "context": " ".join(SENTENCES)}
    ours = pipeline(folder)(item, top_k=4)
    assert_answers(ours, reference_answers(folder, item, top_k=4))
    for answer in ours:
        assert (
            answer["answer"] == answer["answer"].strip() == item["context"][answer["start"] : answer["end"]]
        )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_dtypes(dtype: torch.dtype, reference: Make) -> None:
    """One text at a time: rounding to 8 bits hides nothing."""
    text = "paris is capital of [MASK] ."
    for head, task in (
        ("mlm", "fill-mask"),
        ("seqcls", "text-classification"),
        ("tokcls", "token-classification"),
    ):
        folder = reference("bert", head, name=head, dtype=dtype)
        theirs = hf(task, folder)
        assert theirs.model.dtype == dtype
        assert_same(pipeline(folder)(text), theirs(text))


class Heard:
    def __init__(self) -> None:
        self.events: list[Progress] = []

    def notice(self, event: Notice) -> None: ...

    def progress(self, event: Progress) -> None:
        self.events.append(event)


def test_progress(reference: Make) -> None:
    pipe = pipeline(reference("bert", "seqcls"), batch_size=2)
    with listening(heard := Heard()):
        pipe(["yes", "no", "paris is good", "maybe", "never"])
    assert [(event.done, event.total) for event in heard.events] == [(0, 5), (2, 5), (4, 5), (5, 5)]
    assert {(event.label, event.unit) for event in heard.events} == {("classify", "texts")}


def test_nothing_in_nothing_out(reference: Make) -> None:
    for head in ("mlm", "seqcls", "tokcls", "qa", "base"):
        assert len(pipeline(reference("bert", head, name=head))([])) == 0
