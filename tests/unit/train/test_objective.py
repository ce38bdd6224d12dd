"""Class weights and smoothed labels: torch's and HF's numbers, however a step is cut into batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from biject.config.recipe import TrainConfig
from biject.config.recipe_file import dump_recipe, make_recipe
from biject.data.collate import Collator
from biject.errors import ConfigError
from biject.pretrained import load
from biject.tasks.metrics import metrics_for
from biject.train.objective import balanced, make_objective, smoothed
from biject.train.trainer import Trainer
from biject.verify.reference import make_reference

LABELS = {"id2label": {0: "no", 1: "yes", 2: "never"}, "label2id": {"no": 0, "yes": 1, "never": 2}}
ROWS = [{"input_ids": list(range(5, 8 + i % 4)), "labels": (0, 1, 1, 2)[i % 4]} for i in range(16)]
TAGGED = [{**row, "labels": [i % 3 for i in row["input_ids"]]} for row in ROWS]
SEVERAL = [{**row, "labels": [float(i % 2), 1.0, 0.0]} for i, row in enumerate(ROWS)]
WEIGHTS = (0.5, 1.0, 3.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    root, made = tmp_path_factory.mktemp("objective"), {}

    def get(head: str, **overrides: Any) -> Path:
        key = f"{head}-{len(overrides)}"
        if key not in made:
            labels = LABELS if head in ("seqcls", "tokcls") else {}
            model = "llama" if head == "causal" else "bert"
            made[key] = make_reference(model, head, root / key, overrides=labels | overrides)
        return made[key]

    return get


def model(folder: Path) -> Any:
    return load(folder)


def collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    return Collator(pad_token_id=0, segments=False)(rows)


def batch_and_logits(folder: Path, rows: list[dict[str, Any]]) -> tuple[Any, dict[str, Tensor], Tensor]:
    own, batch = model(folder).eval(), collate(rows)
    return own, batch, own(**{k: v for k, v in batch.items() if k != "labels"}).logits


@pytest.mark.parametrize(("head", "rows"), [("seqcls", ROWS), ("tokcls", TAGGED)])
def test_weights_are_torchs(folder, head: str, rows: Any) -> None:
    own, batch, logits = batch_and_logits(folder(head), rows)
    objective = make_objective(own, TrainConfig(class_weights=WEIGHTS), None)
    assert objective is not None
    expected = F.cross_entropy(logits.view(-1, 3), batch["labels"].view(-1), torch.tensor(WEIGHTS))
    assert torch.equal(objective.step(own, batch), expected)
    labels = batch["labels"][batch["labels"] != -100]
    assert objective.weigh(batch) == pytest.approx(float(torch.tensor(WEIGHTS)[labels].sum()))


def test_several_labels_a_text(folder) -> None:
    place = folder("seqcls", problem_type="multi_label_classification")
    own, batch, logits = batch_and_logits(place, SEVERAL)
    objective = make_objective(own, TrainConfig(class_weights=WEIGHTS), None)
    assert objective is not None
    expected = F.binary_cross_entropy_with_logits(logits, batch["labels"], pos_weight=torch.tensor(WEIGHTS))
    assert torch.equal(objective.step(own, batch), expected)


@pytest.mark.parametrize("share", [0.1, 0.4])
@pytest.mark.parametrize(("head", "rows"), [("seqcls", ROWS), ("tokcls", TAGGED), ("causal", TAGGED)])
def test_smoothing_is_hfs(folder, head: str, rows: Any, share: float) -> None:
    from transformers.trainer_pt_utils import LabelSmoother

    own, batch, logits = batch_and_logits(folder(head), rows)
    objective = make_objective(own, TrainConfig(label_smoothing=share), None)
    assert objective is not None
    theirs = LabelSmoother(epsilon=share)
    expected = theirs({"logits": logits}, batch["labels"].clone(), shift_labels=head == "causal")
    found = objective.step(own, batch)
    assert torch.equal(found, expected)
    ours, other = (torch.autograd.grad(loss, own.parameters(), allow_unused=True, retain_graph=True)
                   for loss in (found, expected))  # fmt: skip
    pairs = [(a, b) for a, b in zip(ours, other, strict=True) if a is not None]
    assert pairs
    assert all(torch.equal(a, b) for a, b in pairs)


def test_no_share_is_plain_cross_entropy() -> None:
    logits, labels = torch.randn(7, 3), torch.tensor([0, 1, 2, -100, 1, 0, 2])
    assert smoothed(logits, labels, 0.0) == pytest.approx(float(F.cross_entropy(logits, labels)))


def test_balanced_is_scikit_learns() -> None:
    sklearn = pytest.importorskip("sklearn.utils.class_weight")
    labels = [0, 1, 1, 2, 1, 0, 1]
    import numpy as np

    expected = sklearn.compute_class_weight("balanced", classes=np.arange(3), y=np.array(labels))
    assert balanced(labels, 3) == pytest.approx(tuple(expected))
    assert balanced([0, 0], 2) == (0.5, 1.0)


@pytest.mark.parametrize("options", [{"class_weights": WEIGHTS}, {"label_smoothing": 0.2},
                                     {"class_weights": "balanced", "label_smoothing": 0.1}])  # fmt: skip
def test_however_a_step_is_cut(folder, options: dict[str, Any]) -> None:
    """One batch of 8, or 4 of 2: the same step up to rounding, since items weigh what they weigh."""
    found = []
    for size, accumulate in ((8, 1), (2, 4)):
        own = model(folder("tokcls", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))
        own.planner.layout = "padded"
        trainer = Trainer(own, collate=collate, batch_size=size, accumulate=accumulate, lr=1e-3, **options)
        fit = trainer.fit(TAGGED, max_steps=2)
        found.append((fit.losses, [p.detach().clone() for p in own.parameters()]))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)


def test_training_evaluates_the_same_loss(folder) -> None:
    own = model(folder("seqcls"))
    trainer = Trainer(own, collate=collate, batch_size=16, class_weights={"never": 5.0}, lr=1e-3)
    batch = collate(ROWS)
    logits = own.eval()(**{k: v for k, v in batch.items() if k != "labels"}).logits
    expected = F.cross_entropy(logits, batch["labels"], torch.tensor([1.0, 1.0, 5.0]))
    # A mean of weighted losses in float32, divided and multiplied by the sum of weights once more.
    assert trainer.evaluate(ROWS)["loss"] == pytest.approx(float(expected), rel=1e-6)
    assert trainer.predict(ROWS).metrics["loss"] == pytest.approx(float(expected), rel=1e-6)


def test_weights_that_add_up_to_less_than_one(folder) -> None:
    small = (0.001, 0.002, 0.006)
    own = model(folder("seqcls"))
    trainer = Trainer(own, collate=collate, batch_size=5, class_weights=small, lr=1e-3)
    batch = collate(ROWS)
    logits = own.eval()(**{k: v for k, v in batch.items() if k != "labels"}).logits
    expected = F.cross_entropy(logits, batch["labels"], torch.tensor(small))
    # Sums of batches of five against one batch's, in float32.
    assert trainer.evaluate(ROWS)["loss"] == pytest.approx(float(expected), rel=1e-6)
    assert trainer.predict(ROWS).metrics["loss"] == pytest.approx(float(expected), rel=1e-6)


def test_nothing_requested_is_the_heads_own_loss(folder) -> None:
    assert make_objective(model(folder("seqcls")), TrainConfig(), None) is None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"class_weights": (1.0, 2.0)}, "2 weights for a model with 3 classes"),
        ({"class_weights": {"maybe": 2.0}}, "no class 'maybe'; there are no, yes, never"),
        ({"class_weights": "even"}, "`class_weights` should be balanced"),
        ({"class_weights": (1.0, -1.0, 1.0)}, "`class_weights` should be"),
        ({"class_weights": {}}, "`class_weights` should be"),
        ({"label_smoothing": 1.0}, "`label_smoothing` should be"),
        ({"label_smoothing": 0.1, "step": lambda model, batch: 0}, "beside a step of one's own"),
    ],
)
def test_what_cannot_be_used(folder, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Trainer(model(folder("seqcls")), collate=collate, **options)


def test_heads_without_classes_and_balanced_before_training(folder) -> None:
    with pytest.raises(ConfigError, match="need a head with classes, found qa"):
        Trainer(model(folder("qa")), label_smoothing=0.1)
    trainer = Trainer(model(folder("seqcls")), collate=collate, class_weights="balanced", batch_size=8)
    with pytest.raises(ConfigError, match="call `fit` first"):
        trainer.evaluate(ROWS)
    trainer.fit(ROWS, max_steps=1)
    assert trainer.evaluate(ROWS)["loss"] > 0


@pytest.mark.parametrize("weights", ["balanced", (0.5, 2.0), {'a "b"': 1.5, "c": 2.0}])
def test_in_a_recipe(weights: Any, tmp_path: Path) -> None:
    import tomllib

    plain = list(weights) if isinstance(weights, tuple) else weights
    recipe = make_recipe(
        {
            "model": "m",
            "data": "d",
            "task": "seqcls",
            "train": {"class_weights": plain, "label_smoothing": 0.1},
        }
    )
    assert recipe.train.class_weights == weights
    assert make_recipe(tomllib.loads(dump_recipe(recipe))) == recipe


def test_resume_with_weights(folder, tmp_path: Path) -> None:
    options: dict[str, Any] = {"collate": collate, "batch_size": 4, "class_weights": [0.5, 1.0, 3.0]}
    own = model(folder("seqcls"))
    Trainer(own, checkpoint_every=2, **options).fit(ROWS, max_steps=4, out=tmp_path)
    again = model(folder("seqcls"))
    start = tmp_path / "checkpoints" / "step-000002"
    Trainer(again, **options).fit(ROWS, max_steps=4, resume=start)
    assert all(torch.equal(a, b) for a, b in zip(own.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("head", ["causal", "mlm"])
def test_perplexity_is_that_of_plain_labels(folder, head: str) -> None:
    """A step with a loss of its own gives the model no labels; the head's own loss is in float32, too."""
    found = []
    for share in (0.0, 0.2):
        trainer = Trainer(
            model(folder(head)), collate=collate, batch_size=5, label_smoothing=share,
            metrics=lambda: metrics_for(head),
        )  # fmt: skip
        found.append(trainer.evaluate(TAGGED))
    plain, smooth = found
    assert smooth.pop("loss") > 1.02 * plain["loss"]  # the smoothed one is 3 and 7 % larger here
    assert plain.pop("loss") == math.log(smooth["perplexity"])
    assert smooth == plain
