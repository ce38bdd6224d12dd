"""Preferences to samples: columns, prompts, conversations, batches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from biject.data.collate import Collator
from biject.data.features import build_dataset
from biject.data.pair_rows import extract_prompt
from biject.data.pairs import PairCollator, PairDataset, single_texts, texts_of
from biject.data.preview import preview
from biject.errors import InputError
from biject.tokenization.tokenizer import Tokenizer, load_tokenizer

from .conftest import write_letters

ROW = {"prompt": "ab", "chosen": "cd", "rejected": "e"}
ASK = {"role": "user", "content": "x?"}


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """One token a byte, an end-of-text token, ChatML's two markers."""
    folder = tmp_path_factory.mktemp("letters")
    write_letters(folder, "<|im_start|>", "<|im_end|>", eos_token="<|endoftext|>")
    return load_tokenizer(folder)


def built(rows: Any, task: str, tokenizer: Tokenizer, **options: Any) -> PairDataset:
    found = build_dataset(rows, task, tokenizer, **options).dataset
    assert isinstance(found, PairDataset)
    return found


def texts(dataset: PairDataset, tokenizer: Tokenizer, index: int = 0) -> tuple[str, str, str]:
    """Prompt, chosen and rejected text of a sample."""
    sample = dataset[index]
    start = sample["prompt_length"]
    parts = (sample["input_ids"][:start], sample["input_ids"][start:], sample["rejected_ids"][start:])
    prompt, chosen, rejected = (tokenizer.decode(ids) for ids in parts)
    return prompt, chosen, rejected


def test_texts(letters: Tokenizer) -> None:
    dataset = built([ROW], "dpo", letters)
    assert texts(dataset, letters) == ("ab", "cd<|endoftext|>", "e<|endoftext|>")
    assert dataset.lengths == [5 + 4]
    ended = built([{**ROW, "chosen": "cd<|endoftext|>"}], "dpo", letters)
    assert texts(ended, letters)[1] == "cd<|endoftext|>"


@pytest.mark.parametrize(
    ("chosen", "rejected", "prompt"),
    [
        ("the sky is blue", "the sky is green", "the sky is"),  # the space goes with the answer
        ("abc", "abd", "ab"),
        ("ab", "abc", "a"),
        ("x", "y", ""),
        ("x ", "y ", ""),  # TRL would look at the letter before the first, which is the last
    ],
)
def test_a_prompt_that_is_not_there(chosen: str, rejected: str, prompt: str, letters: Tokenizer) -> None:
    assert extract_prompt(chosen, rejected) == (prompt, chosen[len(prompt) :], rejected[len(prompt) :])
    dataset = built([{"chosen": chosen, "rejected": rejected}], "dpo", letters)
    assert texts(dataset, letters)[0] == prompt


def test_conversations(letters: Tokenizer) -> None:
    expected = (
        "<|im_start|>user\nx?<|im_end|>\n<|im_start|>assistant\n",
        "yes<|im_end|>\n",
        "no<|im_end|>\n",
    )
    whole = {"chosen": [ASK, *said("yes")], "rejected": [ASK, *said("no")]}
    forms: list[dict[str, Any]] = [
        {"prompt": [ASK], "chosen": said("yes"), "rejected": said("no")},
        whole,
        {"prompt": "x?", **whole},  # a text beside conversations repeats their prompt
        {name: json.dumps(value) for name, value in whole.items()},  # as a .csv file has them
        {"chosen": [{"from": "human", "value": "x?"}, *said("yes")], "rejected": [ASK, *said("no")]},
    ]
    for form in forms:
        dataset = built([form], "dpo", letters)
        assert texts(dataset, letters) == expected
        assert dataset.chat_template is not None  # the export gets it
    reward = built([whole], "reward", letters)
    assert letters.decode(reward[0]["rejected_ids"]) == expected[0] + expected[2]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"chosen": said("a"), "rejected": said("b")}, "the first one differs already"),
        ({"prompt": [ASK], "chosen": [], "rejected": said("b")}, "found an empty list"),
        ({"prompt": [ASK], "chosen": said(""), "rejected": said("b")}, "`content` of the assistant is empty"),
        ({"prompt": [ASK], "chosen": said("a"), "rejected": "b"}, "expected a list as JSON"),
        ({"prompt": [{"role": "me"}], "chosen": said("a"), "rejected": said("b")}, "expected a role out of"),
    ],
)
def test_bad_conversations(row: Any, says: str, letters: Tokenizer) -> None:
    with pytest.raises(InputError, match=says):
        built([row], "dpo", letters)


def test_columns_by_name(letters: Tokenizer) -> None:
    row = {"question": "ab", "better": "cd", "worse": "e", "prompt": "zz"}
    options = {"text_column": "question", "label_column": ("better", "worse")}
    assert texts(built([row], "dpo", letters, **options), letters)[0] == "ab"
    with pytest.raises(InputError, match="no column `worst`"):
        built([row], "dpo", letters, label_column=("better", "worst"))
    with pytest.raises(InputError, match="Did you mean `question`"):
        built([row], "dpo", letters, label_column=("better", "worse"), text_column="questoin")


def test_a_limit_cuts_and_leaves_out(letters: Tokenizer) -> None:
    rows = [ROW, {**ROW, "prompt": "a" * 9}, {**ROW, "rejected": "ce"}]
    report = build_dataset(rows, "dpo", letters, max_length=4).report
    assert "1 pairs whose prompt alone fills 4 tokens are left out" in report.notes
    assert report.num_cut == 3
    report = build_dataset(rows, "dpo", letters, max_length=3).report
    assert "1 pairs are the same up to the limit of 3 tokens and are left out" in report.notes
    report = build_dataset(rows, "reward", letters, max_length=5).report
    assert "1 pairs with a text over 5 tokens are left out" in report.notes
    assert report.num_samples == 2
    with pytest.raises(InputError, match="row 1, column `chosen`: a text with its prompt has 5 tokens"):
        build_dataset(rows, "dpo", letters, max_length=4, truncate=False)


def test_tokens_that_merge_over_the_boundary(tokenizer: Tokenizer) -> None:
    """WordPiece puts [SEP] behind the prompt, which is no part of the text with its completion."""
    row = {"prompt": "the quick", "chosen": " fox", "rejected": " dog"}
    found = build_dataset([row], "reward", tokenizer)
    assert found.dataset.labels == ("LABEL_0",)
    with pytest.raises(InputError, match="ends with the end-of-text token, and this tokenizer has none"):
        build_dataset([row], "dpo", tokenizer)


def test_batches(letters: Tokenizer) -> None:
    dataset = built([ROW, {**ROW, "chosen": "f"}], "dpo", letters)
    batch = PairCollator(single=Collator.for_causal(letters))(dataset[0:2])
    assert batch["input_ids"].shape == (4, 5)
    assert batch["labels"].shape == (4, 5)
    both = [texts_of(sample) for sample in dataset]
    assert batch["input_ids"][1, :4].tolist() == both[1][0]["input_ids"]
    assert batch["input_ids"][2, :4].tolist() == both[0][1]["input_ids"]
    assert batch["labels"][0].tolist() == [-100, -100, *both[0][0]["input_ids"][2:]]
    assert batch["attention_mask"].sum(1).tolist() == [5, 4, 4, 4]
    known = dataset.with_reference([-1.0, -2.0], [-3.0, -4.0])
    more = PairCollator(single=Collator.for_causal(letters))(known[0:2])
    assert torch.equal(more["ref_rejected_logps"], torch.tensor([-3.0, -4.0]))
    margins = built([{**ROW, "margin": 0.5}], "reward", letters)
    assert PairCollator(single=Collator.for_causal(letters))(margins[0:1])["margin"].tolist() == [0.5]


def test_single_texts_and_previews(letters: Tokenizer) -> None:
    dataset = built([ROW] * 3, "dpo", letters)
    some = single_texts(dataset, 4)
    assert len(some) == 4
    assert some[0]["labels"][:2] == [-100, -100]
    assert "rejected_ids" not in some[0]
    shown = preview(dataset, letters, 0)
    assert [token.text for token in shown.tokens if token.learned] == [
        "c",
        "d",
        "<|endoftext|>",
        "e",
        "<|endoftext|>",
    ]
    assert [i for i, token in enumerate(shown.tokens) if token.starts] == [0, 5]


def test_what_decides_a_digest(letters: Tokenizer, tmp_path: Path) -> None:
    import hashlib

    def digest(dataset: PairDataset) -> str:
        found = hashlib.sha256()
        dataset.digest_into(found)
        return found.hexdigest()

    one = built([ROW], "dpo", letters)
    assert digest(one) == digest(built([ROW], "dpo", letters))
    assert digest(one) != digest(built([{**ROW, "rejected": "f"}], "dpo", letters))
    known = one.with_reference([-1.0], [-2.0], made_by="a")
    assert digest(known) == digest(one.with_reference([-1.0000001], [-2.0], made_by="a"))
    assert digest(known) != digest(one.with_reference([-1.0], [-2.0], made_by="b"))
    assert digest(known) != digest(one)
