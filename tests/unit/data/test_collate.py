"""Batches: padding on either side, dtypes, weights, samples that do not fit together."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from biject.data.blocks import flatten
from biject.data.collate import Collator
from biject.errors import InputError
from biject.tasks.metrics import metric_names, metrics_for
from biject.tokenization.tokenizer import Tokenizer, load_tokenizer
from biject.train.weights import num_items

from .conftest import write_letters, write_wordpiece


def collate(samples: Any, **options: Any) -> Any:
    return Collator(**options)(samples)


def ids(*lengths: int, **more: Any) -> list[dict[str, Any]]:
    return [
        {"input_ids": list(range(1, n + 1)), **{name: values[i] for name, values in more.items()}}
        for i, n in enumerate(lengths)
    ]


def test_right_and_left() -> None:
    samples = ids(3, 1, labels=[[5, 6, 7], [8]], token_type_ids=[[0, 1, 1], [1]])
    right = collate(samples, pad_token_id=9)
    assert right["input_ids"].tolist() == [[1, 2, 3], [1, 9, 9]]
    assert right["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert right["labels"].tolist() == [[5, 6, 7], [8, -100, -100]]
    assert right["token_type_ids"].tolist() == [[0, 1, 1], [1, 0, 0]]
    left = collate(samples, pad_token_id=9, padding_side="left", pad_to_multiple_of=4)
    assert left["input_ids"].tolist() == [[9, 1, 2, 3], [9, 9, 9, 1]]
    assert left["labels"].tolist() == [[-100, 5, 6, 7], [-100, -100, -100, 8]]
    assert all(value.dtype == torch.long for value in left.values())


@pytest.mark.parametrize(
    "labels, dtype, shape, items",
    [
        ([1, 0], torch.long, (2,), 2),
        ([1, -100], torch.long, (2,), 1),
        ([1.5, 0.0], torch.float32, (2,), 2),
        ([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]], torch.float32, (2, 3), 2),
        ([[1.0, 0.5, 1.0], [1.0, 2.0, 3.0]], torch.float32, (2, 3), 2),
    ],
)
def test_labels_of_rows(labels: list[Any], dtype: torch.dtype, shape: tuple[int, ...], items: int) -> None:
    batch = collate(ids(3, 2, labels=labels), pad_token_id=0)
    assert batch["labels"].dtype == dtype
    assert tuple(batch["labels"].shape) == shape
    assert num_items(batch) == items


@pytest.mark.parametrize("name", ["label", "label_ids"])
def test_other_names_of_labels(name: str, tokenizer: Tokenizer) -> None:
    """As a `datasets` column is called, and as transformers' collators take it."""
    batch = Collator.of(tokenizer)([{"input_ids": [5, 6], name: 1}, {"input_ids": [7], name: 0}])
    assert batch["labels"].tolist() == [1, 0]
    assert name not in batch


def test_spans_move_with_left_padding() -> None:
    samples = ids(4, 2, start_positions=[1, 0], end_positions=[2, 1])
    right, left = (collate(samples, pad_token_id=0, padding_side=side) for side in ("right", "left"))
    assert right["start_positions"].tolist() == [1, 0]
    assert left["start_positions"].tolist() == [1, 2]
    assert left["end_positions"].tolist() == [2, 3]
    assert num_items(right) == num_items(left) == 2
    right["start_positions"][0] = 4
    assert num_items(right) == 1


def test_collator_of_a_tokenizer(tokenizer: Tokenizer) -> None:
    collator = Collator.of(tokenizer)
    assert (collator.pad_token_id, collator.padding_side) == (0, "right")
    batch = collator(ids(2, 3, labels=[0, 1]))
    assert num_items(batch) == 2
    with_segments = ids(2, 3, labels=[0, 1], token_type_ids=[[0, 0], [0, 0, 1]])
    assert "token_type_ids" in collator(with_segments)
    assert "token_type_ids" not in Collator.of(tokenizer, segments=False)(with_segments)


def test_what_does_not_fit() -> None:
    with pytest.raises(InputError, match="needs samples"):
        collate([], pad_token_id=0)
    with pytest.raises(InputError, match="need a padding token"):
        collate(ids(2, 3), pad_token_id=None)
    assert collate(ids(2, 2), pad_token_id=None)["input_ids"].shape == (2, 2)
    with pytest.raises(InputError, match=r"Sample 1 of a batch: `labels` should have as many.*found 4"):
        collate(ids(2, 3, labels=[[1, 2], [1, 2, 3, 4]]), pad_token_id=0)
    with pytest.raises(InputError, match="`labels` of a batch: expected numbers"):
        collate(ids(2, 2, labels=["a", "b"]), pad_token_id=0)


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6), side=st.sampled_from(["right", "left"]))
def test_nothing_is_lost_and_padding_is_masked(lengths: list[int], side: Any) -> None:
    batch = collate(
        ids(*lengths, labels=[list(range(n)) for n in lengths]), pad_token_id=0, padding_side=side
    )
    mask = batch["attention_mask"].bool()
    for row, length in enumerate(lengths):
        assert batch["input_ids"][row][mask[row]].tolist() == list(range(1, length + 1))
        assert batch["labels"][row][mask[row]].tolist() == list(range(length))
    assert (batch["labels"][~mask] == -100).all()
    assert num_items(batch) == sum(lengths)


def test_a_causal_batch_is_padded_by_place_and_never_by_id(letters: Tokenizer) -> None:
    """The end-of-text token pads where there is no padding token; a text's own is learned."""
    assert letters.pad_token_id is None
    letters_left = Collator.of(letters).padding_side
    collator = Collator.for_causal(letters)
    samples = [
        {"input_ids": [5, 0], "labels": [5, 0]},
        {"input_ids": [5, 6, 7, 0], "labels": [-100, 6, 7, 0]},
    ]
    batch = collator(samples)
    assert batch["input_ids"].tolist() == [[5, 0, 0, 0], [5, 6, 7, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert batch["labels"].tolist() == [[5, 0, -100, -100], [-100, 6, 7, 0]]
    assert letters_left == "right"
    assert Collator.for_causal(letters, pad_to_multiple_of=8)(samples)["labels"].shape == (2, 8)


def test_a_causal_batch_is_padded_on_the_right_whatever_the_tokenizer_says(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_letters(tmp_path, "<pad>", pad_token="<pad>", padding_side="left"))
    assert Collator.of(tokenizer).padding_side == "left"
    collator = Collator.for_causal(tokenizer)
    assert (collator.padding_side, collator.pad_token_id) == ("right", tokenizer.pad_token_id)
    bare = load_tokenizer(write_wordpiece(tmp_path / "bare", pad_token=None))
    assert bare.eos_token_id is bare.pad_token_id is None
    assert Collator.for_causal(bare).pad_token_id == 0


def test_blocks_become_a_row_a_document() -> None:
    block = {"input_ids": [5, 6, 7, 8, 9], "labels": [5, 6, -100, 8, 9], "position_ids": [0, 1, 0, 1, 2],
             "document_lengths": [2, 3]}  # fmt: skip
    batch = Collator(pad_token_id=0)([block, {**block, "document_lengths": [4, 1]}])
    assert batch["input_ids"].tolist() == [[5, 6, 0, 0], [7, 8, 9, 0], [5, 6, 7, 8], [9, 0, 0, 0]]
    assert batch["labels"].tolist()[:2] == [[5, 6, -100, -100], [-100, 8, 9, -100]]
    assert set(batch) == {"input_ids", "labels", "attention_mask"}
    flat = flatten([block])
    assert {name: values.tolist() for name, values in flat.items()} == {
        "input_ids": [[5, 6, 7, 8, 9]],
        "labels": [[-100, 6, -100, 8, 9]],
        "position_ids": [[0, 1, 0, 1, 2]],
    }


def test_what_a_causal_batch_weighs() -> None:
    """HF's shift leaves out each row's first label."""
    labels = torch.tensor([[5, 6, -100, 8], [-100, -100, 7, -100]])
    batch = {"input_ids": labels, "labels": labels, "attention_mask": torch.ones_like(labels)}
    assert num_items(batch, head="causal") == 3
    assert num_items(batch, head="mlm") == 4
    metrics = metrics_for("causal")
    metrics.update(SimpleNamespace(loss=torch.tensor(2.0)), batch)
    nothing = {"labels": torch.full((1, 3), -100)}
    metrics.update(SimpleNamespace(loss=torch.tensor(float("nan"))), nothing)
    metrics.update(SimpleNamespace(loss=torch.tensor(4.0)), {"labels": torch.tensor([[1, 2]])})
    assert metrics.result() == {"loss": 2.5, "perplexity": pytest.approx(math.exp(2.5))}
    assert metric_names("causal") == ("loss", "perplexity")
