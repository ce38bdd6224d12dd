"""Optimizers by name: torch's own, and a run that is interrupted ends as one that is not."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from biject.config.recipe import OptimizerName, TrainConfig
from biject.errors import CheckpointError, ConfigError, MissingExtraError
from biject.nn.quantised import bitsandbytes
from biject.train.optim import make_optimizer, parameter_groups
from biject.train.state import read_state, restore
from biject.train.trainer import Trainer

NAMES = [name for name in get_args(OptimizerName) if not name.startswith("paged_")]


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


def wide() -> nn.Module:
    """Matrices large enough for bitsandbytes to hold their moments in 8 bits."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 70), nn.ReLU(), nn.Linear(70, 70), nn.ReLU(), nn.Linear(70, 3))


@pytest.mark.parametrize("name", ["adamw_8bit", "lion_8bit"])
def test_moments_in_8_bits(name: str, data: Any, tmp_path: Path) -> None:
    """They are bitsandbytes' to the bit, and so after a resume."""
    whole, parts, again, own = wide(), wide(), wide(), wide()
    options: dict[str, Any] = {"step": step, "lr": 1e-2, "batch_size": 8, "optimizer": name}
    kind = {"adamw_8bit": "AdamW8bit", "lion_8bit": "Lion8bit"}[name]
    made = getattr(bitsandbytes().optim, kind)(
        parameter_groups(own, TrainConfig(lr=1e-2)), betas=(0.9, 0.999)
    )
    Trainer(own, **{**options, "optimizer": made}).fit(data, max_steps=6)
    session = Trainer(whole, **options).setup(data, max_steps=6)
    assert session.optimizer.param_groups[0]["lr"] == 1e-2
    Trainer(whole, **options).run(session)
    assert session.optimizer.state[whole[2].weight]["state1"].dtype == torch.uint8
    Trainer(parts, checkpoint_every=3, **options).fit(data, max_steps=6, out=tmp_path)
    Trainer(again, **options).fit(data, max_steps=6, resume=tmp_path / "checkpoints" / "step-000003")
    for one, other, resumed in zip(whole.parameters(), own.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one, resumed)


def test_scales_of_another_shape_are_refused(data: Any, tmp_path: Path) -> None:
    options: dict[str, Any] = {"step": step, "lr": 1e-2, "batch_size": 8, "optimizer": "adamw_8bit"}
    Trainer(wide(), checkpoint_every=3, **options).fit(data, max_steps=3, out=tmp_path)
    path = tmp_path / "checkpoints" / "step-000003" / "trainer_state.safetensors"
    tensors = load_file(path)
    scales = [name for name in tensors if name.endswith(".absmax1")]
    assert scales
    tensors[scales[0]] = tensors[scales[0]][:-1].clone()
    save_file(tensors, path, metadata={"format": "pt"})
    text = path.with_suffix(".json")  # as written before there were digests
    text.write_text(json.dumps({**json.loads(text.read_text()), "sealed": False}))
    (path.parent / "checkpoint.json").unlink()
    with pytest.raises(CheckpointError, match="absmax1"), pytest.warns(UserWarning, match="digests"):
        Trainer(wide(), **options).fit(data, max_steps=6, resume=path.parent)


def test_with_cadence_rank_0_has_its_moments_in_8_bits(data: Any, tmp_path: Path) -> None:
    options: dict[str, Any] = {"step": step, "lr": 1e-2, "batch_size": 8, "optimizer": "adamw_8bit"}
    Trainer(wide(), checkpoint_every=3, **options).fit(data, max_steps=3, out=tmp_path)
    saved = read_state(tmp_path / "checkpoints" / "step-000003")
    model = wide()
    optimizer = make_optimizer(model, TrainConfig(lr=1e-2, optimizer="adamw_8bit"))
    restore(saved, optimizer, None, None, own_moments=True)
    assert optimizer.state[model[2].weight]["state1"].dtype == torch.uint8


def adafactor_of_transformers(model: nn.Module) -> Any:
    from transformers.optimization import Adafactor

    return Adafactor(model.parameters(), lr=1e-2, beta1=0.9, scale_parameter=False, relative_step=False)


def test_moments_of_any_shape_are_those_that_were_written(
    make: Callable[[], nn.Module], data: Any, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"step": step, "batch_size": 8, "optimizer": adafactor_of_transformers}
    whole, again = make(), make()
    Trainer(whole, checkpoint_every=3, **options).fit(data, max_steps=6, out=tmp_path)
    folder = tmp_path / "checkpoints" / "step-000003"
    Trainer(again, **options).fit(data, max_steps=6, resume=folder)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
    tensors, saved = load_file(folder / "trainer_state.safetensors"), read_state(folder)
    for name in ("exp_avg_sq_row", "exp_avg"):
        key = next(key for key in tensors if key.endswith(f".{name}") and tensors[key].shape[0] == 16)
        other = replace(saved, tensors={**tensors, key: tensors[key][:1].clone()})
        with pytest.raises(CheckpointError, match=f"{name} of parameter"):
            restore(other, adafactor_of_transformers(make()), None, None)
    backwards = [*reversed([*make().parameters()])]
    with pytest.raises(CheckpointError, match="of parameter"):
        restore(saved, adafactor_of_transformers(nn.ParameterList(backwards)), None, None)


def test_paged_ones_need_a_gpu(make: Callable[[], nn.Module]) -> None:
    for name, other in (("paged_adamw_32bit", "'adamw'"), ("paged_adamw_8bit", "'adamw_8bit'")):
        with pytest.raises(ConfigError, match=f"{name}.*on 'cpu'.*{other}"):
            make_optimizer(make(), TrainConfig(optimizer=name))  # type: ignore[arg-type]


def test_without_bitsandbytes(make: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    bitsandbytes.cache_clear()
    with pytest.raises(MissingExtraError, match=r"pip install 'biject\[quant\]'"):
        make_optimizer(make(), TrainConfig(optimizer="adamw_8bit"))


def test_unknown_names_and_values() -> None:
    with pytest.raises(ConfigError, match=r"`optimizer` should be one of adamw, .*found 'adamx'"):
        TrainConfig(optimizer="adamx")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="`momentum`"):
        TrainConfig(momentum=1.0)
