"""What merges are measured on: each text with its own label."""

from __future__ import annotations

from pathlib import Path

import pytest

from biject import LoraConfig
from biject.errors import InputError
from biject.merging.merge import merge
from biject.merging.sample import make_sample
from biject.pretrained import load
from biject.verify.reference import make_reference

TEXTS = ["the fox", "", "a dog", "", "a model", "paris"]
LABELS = [1, 0, 1, 0, "LABEL_0", "1"]


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its tokenizer adds nothing to a text, so that an empty one has no tokens."""
    return make_reference("gpt2", "seqcls", tmp_path_factory.mktemp("sample") / "base")


def test_a_text_without_tokens_takes_its_label_along(gpt2: Path) -> None:
    sample = make_sample(load(gpt2), gpt2, TEXTS, labels=LABELS, name="rows.csv")
    assert sample.labels == (1, 1, 0, 1)
    assert sample.num_texts == sum(len(batch["input_ids"]) for batch in sample.batches) == 4
    assert sample.what == "4 texts of rows.csv (2 without tokens left out)"
    assert make_sample(load(gpt2), gpt2, ["a dog"]).what == "1 texts of the sample"


def test_a_sample_without_tokens_is_refused(gpt2: Path) -> None:
    with pytest.raises(InputError, match="no tokens"):
        make_sample(load(gpt2), gpt2, ["", ""], labels=[0, 1])


def test_labels_without_texts_are_refused(gpt2: Path, tmp_path: Path) -> None:
    model = load(gpt2)
    model.add_adapter(LoraConfig(r=2))
    model.save_adapter(tmp_path / "adapter")
    with pytest.raises(InputError, match="Labels need the texts"):
        merge(tmp_path / "adapter", tmp_path / "merged", labels=[0, 1])
    assert not (tmp_path / "merged").exists()
