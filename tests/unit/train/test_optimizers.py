"""Optimizers by name: torch's own, and a run that is interrupted ends as one that is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from biject.config.recipe import OptimizerName, TrainConfig
from biject.errors import ConfigError
from biject.train.optim import make_optimizer, parameter_groups
from biject.train.trainer import Trainer

NAMES = get_args(OptimizerName)


def step(model: nn.Module, batch: Any) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


@pytest.mark.parametrize("name", NAMES)
def test_resume_to_the_bit(name: str, make: Callable[[], nn.Module], data: Any, tmp_path: Path) -> None:
    options: dict[str, Any] = {"step": step, "lr": 1e-2, "batch_size": 8, "optimizer": name, "momentum": 0.5}
    whole, parts = make(), make()
    before = [parameter.clone() for parameter in whole.parameters()]
    Trainer(whole, **options).fit(data, max_steps=6)
    Trainer(parts, checkpoint_every=3, **options).fit(data, max_steps=6, out=tmp_path)
    again = make()
    start = tmp_path / "checkpoints" / "step-000003"
    Trainer(again, **options).fit(data, max_steps=6, resume=start)
    for old, one, two, three in zip(
        before, whole.parameters(), parts.parameters(), again.parameters(), strict=True
    ):
        assert torch.equal(one, two)
        assert torch.equal(one, three)
        assert not torch.equal(old, one)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("adamw", lambda groups: torch.optim.AdamW(groups, lr=1e-2, betas=(0.8, 0.9), eps=1e-6, fused=True)),
        ("adamw_torch", lambda groups: torch.optim.AdamW(groups, lr=1e-2, betas=(0.8, 0.9), eps=1e-6)),
        ("sgd", lambda groups: torch.optim.SGD(groups, lr=1e-2, momentum=0.5)),
        ("rmsprop", lambda groups: torch.optim.RMSprop(groups, lr=1e-2, eps=1e-6, momentum=0.5)),
        ("adafactor", lambda groups: torch.optim.Adafactor(groups, lr=1e-2)),
    ],
)
def test_it_is_torchs_own(name: str, expected: Any, make: Callable[[], nn.Module], data: Any) -> None:
    config = TrainConfig(optimizer=name, lr=1e-2, beta1=0.8, beta2=0.9, eps=1e-6, momentum=0.5)  # type: ignore[arg-type]
    one, other = make().eval(), make().eval()
    optimizers = make_optimizer(one, config), expected(parameter_groups(other, config))
    assert type(optimizers[0]) is type(optimizers[1])
    xs = torch.stack([x for x, _ in data[:8]])
    ys = torch.tensor([y for _, y in data[:8]])
    for _ in range(3):
        for model, optimizer in zip((one, other), optimizers, strict=True):
            optimizer.zero_grad()
            step(model, (xs, ys)).backward()
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_unknown_names_and_values() -> None:
    with pytest.raises(ConfigError, match=r"`optimizer` should be one of adamw, .*found 'adamx'"):
        TrainConfig(optimizer="adamx")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="`momentum`"):
        TrainConfig(momentum=1.0)
