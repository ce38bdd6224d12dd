"""Models of transformers as they are: what their labels are the labels of, and how many count."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from biject.config.recipe import TrainConfig
from biject.data.collate import Collator
from biject.errors import InputError
from biject.families import families
from biject.pretrained import load
from biject.train.heads import head_by_class, head_of
from biject.train.objective import make_objective
from biject.train.trainer import Trainer
from biject.verify.reference import make_reference

HEADS = ("causal", "mlm", "tokcls", "seqcls", "imgcls")
ROWS: list[dict[str, Any]] = []
for place in range(12):
    ids = list(range(5, 8 + place % 5))
    ROWS.append({"input_ids": ids, "labels": [ids[0], -100 if place % 2 else ids[1], *ids[2:]]})


def collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    return Collator(pad_token_id=0, segments=False)(rows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_reference("llama", "causal", tmp_path_factory.mktemp("heads") / "llama")


def plain(folder: Path) -> Any:
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM.from_pretrained(folder).eval()


def with_peft(folder: Path) -> Any:
    peft = pytest.importorskip("peft")
    return peft.get_peft_model(plain(folder), peft.LoraConfig(target_modules=["q_proj"])).eval()


MAKE = pytest.mark.parametrize("make", [plain, with_peft])


def test_classes_of_every_family() -> None:
    found = [
        (head, entry.hf_class)
        for family in families().values()
        for head, entry in family.heads.items()
        if head in HEADS
    ]
    assert {head for head, _ in found} == set(HEADS)
    assert [(head_by_class(name), name) for _, name in found] == found
    assert head_by_class("BertModel") is None


def test_classes_of_encoder_decoders() -> None:
    made = {}
    for both in (True, False):
        kind = type("AForConditionalGeneration", (nn.Module,), {})
        model: Any = kind()
        model.config = type("Config", (), {"is_encoder_decoder": both})()
        made[both] = head_of(model)
    assert made == {True: "seq2seq", False: None}


@MAKE
def test_smoothed_labels_are_those_of_the_next_tokens(folder: Path, make: Callable[[Path], Any]) -> None:
    from transformers.trainer_pt_utils import LabelSmoother

    model, batch = make(folder), collate(ROWS)
    objective = make_objective(model, TrainConfig(label_smoothing=0.2), None)
    assert objective is not None
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    theirs = LabelSmoother(epsilon=0.2)({"logits": logits}, batch["labels"].clone(), shift_labels=True)
    assert torch.equal(objective.step(model, batch), theirs)
    weights = [1.0 + i % 3 for i in range(logits.shape[-1])]
    objective = make_objective(model, TrainConfig(class_weights=tuple(weights)), None)
    assert objective is not None
    expected = nn.functional.cross_entropy(
        logits[:, :-1].reshape(-1, len(weights)), batch["labels"][:, 1:].reshape(-1), torch.tensor(weights)
    )
    assert torch.equal(objective.step(model, batch), expected)


@MAKE
def test_items_are_those_of_our_model(folder: Path, make: Callable[[Path], Any]) -> None:
    trainer, ours = Trainer(make(folder), collate=collate), Trainer(load(folder), collate=collate)
    batch = collate(ROWS)
    assert trainer.weigh(batch) == ours.weigh(batch) == float((batch["labels"][:, 1:] != -100).sum())
    found = [trainer.evaluate(ROWS, batch_size=size)["loss"] for size in (3, 12)]
    # Means of batches put together in float64, each computed in float32, which rounds by 6e-8: 9e-8 found.
    assert found[0] == pytest.approx(found[1], rel=2e-7)


class Tagger(nn.Module):
    """Somebody's own."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(99, 99)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        return type("Output", (), {"logits": self.table(input_ids)})


def test_a_class_that_does_not_say_it_is_asked(folder: Path) -> None:
    model, batch = Tagger(), collate(ROWS)
    with pytest.raises(InputError, match="head_name"):
        Trainer(model, collate=collate, label_smoothing=0.1).fit(ROWS, max_steps=1)
    losses = []
    for name in ("tokcls", "causal"):
        vars(model)["head_name"] = name
        losses.append(Trainer(model, collate=collate, label_smoothing=0.1).step(model, batch))
    assert not torch.equal(*losses)
