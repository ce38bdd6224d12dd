"""A resumed run over pairs computes its reference anew: the last bits may differ, the reference may not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from biject.config.adapter import LoraConfig
from biject.config.preference import PreferenceConfig
from biject.data.collate import Collator
from biject.data.dataset import Ids
from biject.data.pairs import REFERENCE, PairCollator, PairDataset
from biject.errors import CheckpointError
from biject.model import Model
from biject.pretrained import load
from biject.train.preference import DpoObjective, with_reference
from biject.train.trainer import Trainer
from biject.verify.reference import make_reference

COLLATE = PairCollator(single=Collator(pad_token_id=0, segments=False))
STEPS = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_reference("llama", "causal", tmp_path_factory.mktemp("preference") / "llama")


def pairs() -> PairDataset:
    chosen, rejected = ([[5, 6, first + i, 9] for i in range(8)] for first in (10, 30))
    return PairDataset("dpo", Ids(chosen), Ids(rejected), rows=range(8), prompts=[2] * 8)


def known(reference: Model, change: float = 0.0) -> PairDataset:
    """With the reference's numbers, or those that another device might give."""
    dataset = with_reference(pairs(), reference, collate=COLLATE, batch_size=4)
    chosen, rejected = ([value + change for value in dataset.column(name)] for name in REFERENCE)
    return dataset.with_reference(chosen, rejected, made_by=dataset.made_by)


def fit(folder: Path, dataset: PairDataset, out: Path, **options: bool) -> None:
    objective = DpoObjective(config=PreferenceConfig())
    trainer = Trainer(
        load(folder), step=objective.step, weigh=objective.weigh, collate=COLLATE, batch_size=4,
        checkpoint_every=STEPS // 2, progress=False,
    )  # fmt: skip
    trainer.fit(dataset, max_steps=STEPS if options else STEPS // 2, out=out, **options)


def test_other_last_bits_are_the_same_reference(folder: Path, tmp_path: Path) -> None:
    fit(folder, known(load(folder)), tmp_path)
    fit(folder, known(load(folder), 1e-6), tmp_path, resume=True)
    assert (tmp_path / "checkpoints" / "step-000004").is_dir()


def test_another_reference_is_other_data(folder: Path, tmp_path: Path) -> None:
    other = make_reference("llama", "causal", tmp_path / "other", overrides={"rms_norm_eps": 1e-3})
    adapted = load(folder)
    torch.manual_seed(0)
    adapted.add_adapter(LoraConfig(r=2))
    fit(folder, known(adapted), tmp_path)
    fit(folder, known(adapted, 1e-6), tmp_path, resume=True)
    with torch.no_grad():
        next(iter(adapted.adapters.adapters["default"].trained())).add_(1e-3)
    for reference in (adapted, load(other), load(folder)):
        with pytest.raises(CheckpointError, match="training data changed"):
            fit(folder, known(reference), tmp_path, resume=True)
