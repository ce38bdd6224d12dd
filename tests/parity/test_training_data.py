"""Samples and batches against transformers' collators and example scripts, on every kind of tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from biject.data.blocks import PackedDataset, flatten
from biject.data.collate import Collator
from biject.data.features import build_dataset
from biject.data.masking import Masking
from biject.data.rows import load_rows
from biject.tokenization.tokenizer import load_tokenizer

from .real import CACHE, real_folder
from .tokenization.cases import CASES

KINDS = (
    "wordpiece bare",
    "wordpiece distilbert",
    "byte-bpe roberta",
    "byte-bpe roberta prefix",
    "sentencepiece xlm-roberta",
    "sentencepiece deberta-v2",
    "sentencepiece albert",
    "sentencepiece camembert",
)
TEXTS = ("The quick brown fox", "nobody measures anything at all, café naïve 日本語", "don't can't I'm", "a")
LABELS = ("B-A", "I-A", "O")


def both(kind: str, folder: Path) -> tuple[Any, Any]:
    from transformers import AutoTokenizer

    CASES[kind](folder)
    return load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)


def equal(ours: Any, theirs: Any) -> None:
    assert set(ours) == set(theirs)
    for name in ours:
        assert torch.equal(ours[name], theirs[name].to(ours[name].dtype)), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", ["right", "left"])
def test_seqcls(kind: str, side: str, tmp_path: Path) -> None:
    from transformers import DataCollatorWithPadding

    ours, theirs = both(kind, tmp_path)
    ours.padding_side = theirs.padding_side = side
    rows = [{"a": text, "b": "over the lazy dog " * i, "label": i % 2} for i, text in enumerate(TEXTS, 1)]
    built = build_dataset(rows, "seqcls", ours, text_column=("a", "b"), max_length=24)
    encoded = [
        {**theirs(row["a"], row["b"], truncation=True, max_length=24), "label": row["label"]} for row in rows
    ]
    equal(Collator.of(ours)(built.dataset[:]), dict(DataCollatorWithPadding(theirs)(encoded)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("label_all", [False, True])
def test_tokcls_as_run_ner(kind: str, label_all: bool, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, DataCollatorForTokenClassification

    ours, theirs = both(kind, tmp_path)
    if kind == "byte-bpe roberta":  # HF takes words only so; the first word then has its space
        theirs = AutoTokenizer.from_pretrained(tmp_path, add_prefix_space=True)
        words = [[f" {text.split()[0]}", *text.split()[1:]] for text in TEXTS]
    else:
        words = [text.split() for text in TEXTS]
    tags = [[LABELS[i % 3] for i in range(len(some))] for some in words]
    rows = [{"tokens": some, "ner_tags": own} for some, own in zip(words, tags, strict=True)]
    built = build_dataset(rows, "tokcls", ours, labels=LABELS, label_all=label_all, max_length=16)
    samples = []
    for text, own in zip(TEXTS, tags, strict=True):
        encoded = theirs(text.split(), truncation=True, max_length=16, is_split_into_words=True)
        labels, before = [], None
        for word in encoded.word_ids():  # run_ner.py, tokenize_and_align_labels
            if word is None:
                labels.append(-100)
            elif word != before:
                labels.append(LABELS.index(own[word]))
            elif label_all:
                labels.append(LABELS.index(own[word].replace("B-", "I-")))
            else:
                labels.append(-100)
            before = word
        samples.append({**encoded, "labels": labels})
    equal(Collator.of(ours)(built.dataset[:]), dict(DataCollatorForTokenClassification(theirs)(samples)))


@pytest.mark.parametrize("kind", KINDS)
def test_qa_as_run_qa(kind: str, tmp_path: Path) -> None:
    ours, theirs = both(kind, tmp_path)
    context = "nobody measures anything at all; " * 4 + "The quick brown fox jumps over the lazy dog."
    rows = []
    for answer in ("brown fox", "nobody", "lazy dog.", "anything", "ox jum"):
        found = {"text": [answer], "answer_start": [context.index(answer)]}
        rows.append({"question": f" What is {answer[:3]}?", "context": context, "answers": found})
    built = build_dataset(rows, "qa", ours, max_length=64, stride=12)
    expected = run_qa_features(theirs, rows, max_length=64, stride=12)
    assert [dict(sample) for sample in built.dataset] == expected


def run_qa_features(theirs: Any, rows: list[dict[str, Any]], *, max_length: int, stride: int) -> list[Any]:
    """As examples/pytorch/question-answering/run_qa.py of transformers, prepare_train_features."""
    encoded = theirs(
        [row["question"].lstrip() for row in rows],
        [row["context"] for row in rows],
        truncation="only_second",
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    features = []
    for i, offsets in enumerate(encoded["offset_mapping"]):
        ids = encoded["input_ids"][i]
        sequence_ids = encoded.sequence_ids(i)
        answers = rows[encoded["overflow_to_sample_mapping"][i]]["answers"]
        cls = ids.index(theirs.cls_token_id)
        start_char = answers["answer_start"][0]
        end_char = start_char + len(answers["text"][0])
        first, last = 0, len(ids) - 1
        while sequence_ids[first] != 1:
            first += 1
        while sequence_ids[last] != 1:
            last -= 1
        span = (cls, cls)
        if offsets[first][0] <= start_char and offsets[last][1] >= end_char:
            while first < len(offsets) and sequence_ids[first] == 1 and offsets[first][0] <= start_char:
                first += 1
            while offsets[last][1] >= end_char:
                last -= 1
            span = (first - 1, last + 1)
        names = [name for name in ("input_ids", "token_type_ids") if name in encoded]
        features.append(
            {name: encoded[name][i] for name in names}
            | {"start_positions": span[0], "end_positions": span[1]}
        )
    return features


@pytest.mark.parametrize("whole_words", [False, True])
def test_masking_has_the_statistics_of_hf(whole_words: bool, tmp_path: Path) -> None:
    from transformers import DataCollatorForLanguageModeling

    _, theirs = both("wordpiece bare", tmp_path)
    text = "the quick brown fox jumps over the lazy dog " * 6
    encoded = theirs(text, return_special_tokens_mask=True, return_offsets_mapping=whole_words)
    words = [-1 if word is None else word for word in encoded.word_ids()]
    masking = Masking(mask_token_id=theirs.mask_token_id, vocab_size=len(theirs), whole_words=whole_words)
    collator = DataCollatorForLanguageModeling(theirs, whole_word_mask=whole_words, seed=0)
    rounds = 300
    mine, hf = torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    for index in range(rounds):
        ids, labels = masking(encoded["input_ids"], words, epoch=0, index=index)
        mine += counted(torch.tensor(ids), torch.tensor(labels), theirs.mask_token_id)
        batch = collator([dict(encoded)])
        hf += counted(batch["input_ids"][0], batch["labels"][0], theirs.mask_token_id)
    free = sum(word >= 0 for word in words)
    # Six standard deviations of a difference of binomial shares; whole words (up to eight tokens) vary more.
    spread = 6 * (2 * 0.15 * 0.85 / (rounds * free) * (8 if whole_words else 1)) ** 0.5
    assert abs(mine[0] - hf[0]) / (rounds * free) < spread
    if not whole_words:  # HF replaces every token of whole words, we (as Google's code) 80 % of them
        assert abs(mine[1] / mine[0] - hf[1] / hf[0]) < 6 * (2 * 0.8 * 0.2 / float(hf[0])) ** 0.5


def counted(ids: torch.Tensor, labels: torch.Tensor, mask: int) -> torch.Tensor:
    chosen = labels != -100
    return torch.tensor([float(chosen.sum()), float((ids[chosen] == mask).sum())], dtype=torch.float64)


def test_movie_snippets_with_a_real_tokenizer() -> None:
    from transformers import AutoTokenizer

    folder, table = real_folder("all-MiniLM-L6-v2"), CACHE / "movie-snippets.csv"
    if not table.is_file():
        pytest.skip("movie-snippets.csv is not there; fetch it with `python scripts/fetch_data.py`")
    built = build_dataset(load_rows(table, limit=2000), "seqcls", load_tokenizer(folder), max_length=32)
    texts = [row["text"] for row in load_rows(table, limit=2000).records]
    theirs = AutoTokenizer.from_pretrained(folder)(texts, truncation=True, max_length=32)
    assert [sample["input_ids"] for sample in built.dataset] == theirs["input_ids"]
    assert built.labels == ("negative", "positive")


CAUSAL = ("byte-bpe roberta", "sentencepiece llama", "sentencepiece xlm-roberta")


@pytest.mark.parametrize("kind", CAUSAL)
def test_causal(kind: str, tmp_path: Path) -> None:
    """As DataCollatorForLanguageModeling(mlm=False) on the right, where padding has a token of its own."""
    from transformers import DataCollatorForLanguageModeling

    ours, theirs = both(kind, tmp_path)
    if ours.pad_token is None:
        ours.add_special_tokens({"pad_token": "<unk>"})
        theirs.pad_token = "<unk>"
    theirs.padding_side = "right"
    built = build_dataset([{"text": text} for text in TEXTS], "causal", ours)
    samples = []
    for text in TEXTS:
        row = theirs(text)["input_ids"]
        samples.append({"input_ids": row if row[-1] == theirs.eos_token_id else [*row, theirs.eos_token_id]})
    collated = dict(DataCollatorForLanguageModeling(theirs, mlm=False)(samples))
    equal(Collator.for_causal(ours)(built.dataset[:]), collated)


def test_a_real_end_is_learned_where_padding_is_the_same_token(tmp_path: Path) -> None:
    """transformers masks labels by id: its model never learns to stop."""
    from transformers import DataCollatorForLanguageModeling

    ours, theirs = both("byte-bpe roberta", tmp_path)
    theirs.pad_token = theirs.eos_token
    ours.add_special_tokens({"pad_token": ours.eos_token})
    built = build_dataset([{"text": text} for text in TEXTS], "causal", ours)
    batch = Collator.for_causal(ours)(built.dataset[:])
    collated = DataCollatorForLanguageModeling(theirs, mlm=False)(
        [{"input_ids": s["input_ids"]} for s in built.dataset]
    )
    assert torch.equal(batch["input_ids"], collated["input_ids"])
    ends = batch["input_ids"] == ours.eos_token_id
    assert bool((collated["labels"][ends] == -100).all())
    assert bool((batch["labels"][ends & (batch["attention_mask"] == 1)] == ours.eos_token_id).all())
    assert bool((batch["labels"][batch["attention_mask"] == 0] == -100).all())


@pytest.mark.parametrize("kind", CAUSAL)
def test_flat_blocks(kind: str, tmp_path: Path) -> None:
    from transformers import DataCollatorWithFlattening

    ours, _ = both(kind, tmp_path)
    rows = [{"text": text * i} for i, text in enumerate(TEXTS, 1)]
    built = build_dataset(rows, "causal", ours, max_length=32, packing=True)
    assert isinstance(built.dataset, PackedDataset)
    pieces = built.dataset.pieces[:]
    assert len(pieces) > len(built.dataset) > 1
    theirs = dict(DataCollatorWithFlattening()([dict(piece) for piece in pieces]))
    equal(flatten(built.dataset[:]), theirs)
