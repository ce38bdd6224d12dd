"""`Trainer.predict`: rows in order, as HF's Trainer gives them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import biject
from biject.data.collate import Collator
from biject.errors import InputError
from biject.tasks.metrics import metrics_for
from biject.train.trainer import Trainer
from biject.verify.reference import make_reference

ROWS = [{"input_ids": list(range(5, 8 + i % 4)), "labels": i % 2} for i in range(9)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("predict")
    return {head: make_reference("bert", head, root / head) for head in ("seqcls", "tokcls", "qa")}


def trainer(model: nn.Module, **options: Any) -> Trainer:
    return Trainer(model, collate=Collator(pad_token_id=0, segments=False), batch_size=4, **options)


def test_classes_as_hf_gives_them(folders) -> None:
    """The same arrays as HF's Trainer on HF's model."""
    import transformers

    model = biject.AutoModelForSequenceClassification.from_pretrained(folders["seqcls"])
    found = trainer(model).predict(ROWS)
    theirs = transformers.BertForSequenceClassification.from_pretrained(folders["seqcls"])
    arguments = transformers.TrainingArguments(
        output_dir="unused", per_device_eval_batch_size=4, report_to=[], use_cpu=True
    )
    collate = Collator(pad_token_id=0, segments=False)
    expected = transformers.Trainer(theirs, arguments, data_collator=collate).predict(ROWS)
    assert isinstance(found.predictions, np.ndarray)
    assert np.array_equal(found.predictions, expected.predictions)
    assert np.array_equal(found.label_ids, expected.label_ids)
    predictions, label_ids, metrics = found
    assert predictions is found.predictions
    assert label_ids is found.label_ids
    # HF takes the mean over samples of the batches' means, ours the mean over samples: here both are the same
    assert metrics["loss"] == pytest.approx(expected.metrics["test_loss"], rel=1e-5)


def test_tokens_are_padded_with_minus_100(folders) -> None:
    model = biject.AutoModelForTokenClassification.from_pretrained(folders["tokcls"])
    rows = [{**row, "labels": [i % 2 for i in row["input_ids"]]} for row in ROWS]
    found = trainer(model).predict(rows)
    longest = max(len(row["input_ids"]) for row in rows)
    assert found.predictions.shape[:2] == found.label_ids.shape == (9, longest)
    for i, row in enumerate(rows):
        count = len(row["input_ids"])
        assert found.label_ids[i, :count].tolist() == row["labels"]
        assert (found.label_ids[i, count:] == -100).all()
        alone = model(torch.tensor([row["input_ids"]])).logits[0]
        assert torch.allclose(torch.tensor(found.predictions[i, :count]), alone, atol=1e-5)


def test_answers_are_two_arrays(folders) -> None:
    model = biject.AutoModelForQuestionAnswering.from_pretrained(folders["qa"])
    rows = [{"input_ids": row["input_ids"], "start_positions": 1, "end_positions": 2} for row in ROWS]
    starts, ends = trainer(model).predict(rows).predictions
    assert starts.shape == ends.shape
    assert len(starts) == 9


def test_without_labels_and_with_metrics(folders) -> None:
    model = biject.AutoModelForSequenceClassification.from_pretrained(folders["seqcls"])
    labelled = trainer(model, metrics=lambda: metrics_for("seqcls", labels=("no", "yes"))).predict(ROWS)
    bare = trainer(model).predict([{"input_ids": row["input_ids"]} for row in ROWS])
    assert np.array_equal(labelled.predictions, bare.predictions)
    assert bare.label_ids is None
    assert bare.metrics == {}
    assert {"loss", "accuracy"} <= set(labelled.metrics)
    assert labelled.metrics["accuracy"] == np.mean(labelled.predictions.argmax(-1) == labelled.label_ids)


def test_steps_of_ones_own(folders) -> None:
    data = [(torch.full((2,), float(i)), torch.zeros(())) for i in range(5)]
    model = nn.Linear(2, 1)

    def step(model: nn.Module, batch: Any) -> torch.Tensor:
        return (model(batch[0]).squeeze(-1) - batch[1]).square().mean()

    found = Trainer(model, step=step).predict(data, batch_size=2)
    assert np.allclose(found.predictions, model(torch.stack([x for x, _ in data])).detach().numpy())

    def without_the_model(model: nn.Module, batch: Any) -> torch.Tensor:
        return (batch[0] @ model.weight.T).mean()

    with pytest.raises(InputError, match="did not call the model"):
        Trainer(model, step=without_the_model).predict(data)
