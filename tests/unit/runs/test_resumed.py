"""What `finetune --resume` may change, beside what the trainer may."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from biject.config.recipe import FinetuneRecipe
from biject.errors import InputError
from biject.runs import folder
from biject.train import session


def test_all_that_the_trainer_allows() -> None:
    assert {f"train.{name}" for name in session._MAY_DIFFER} <= folder._MAY_DIFFER


def test_recomputed_layers_after_a_run_that_had_no_memory() -> None:
    before = FinetuneRecipe(model="m", data="d.csv", task="seqcls")
    now = replace(before, train=replace(before.train, gradient_checkpointing=True, checkpoint_async=True))
    folder.check_same(before, now, Path("run"))
    with pytest.raises(InputError, match=r"train.lr was"):
        folder.check_same(before, replace(now, train=replace(now.train, lr=1.0)), Path("run"))
