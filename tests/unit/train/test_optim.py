"""Schedules, decay and depth groups, freezing: against transformers where it has the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from biject.config.recipe import TrainConfig
from biject.errors import ConfigError
from biject.families import families
from biject.pretrained import load
from biject.train.optim import freeze, make_optimizer, make_schedule, no_decay_names, parameter_groups
from biject.train.trainer import Trainer


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("warmup", [0, 7, 0.1])
def test_schedules_are_those_of_transformers(schedule: str, warmup: float) -> None:
    from transformers import optimization

    model, total = nn.Linear(2, 2), 43
    config = TrainConfig(schedule=schedule, warmup=warmup, lr=3e-4)  # type: ignore[arg-type]
    ours = make_schedule(make_optimizer(model, config), config, total)
    theirs_optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    steps = 5 if warmup == 0.1 else int(warmup)  # HF rounds a ratio up
    make = getattr(optimization, f"get_{schedule}_schedule_with_warmup")
    total_steps = {} if schedule == "constant" else {"num_training_steps": total}
    theirs = make(theirs_optimizer, num_warmup_steps=steps, **total_steps)
    for _ in range(total):
        assert ours.get_last_lr() == theirs.get_last_lr() * len(ours.get_last_lr())
        ours.optimizer.step()
        theirs_optimizer.step()
        ours.step()
        theirs.step()


@pytest.mark.parametrize("model_type", list(families()))
def test_no_decay_is_hf_trainers(model_type: str, tmp_path: Path) -> None:
    from transformers import Trainer as HFTrainer

    from biject.checkpoint.source import open_source
    from biject.verify.compare import hf_parameter
    from biject.verify.hf import load_hf
    from biject.verify.reference import make_reference

    heads = families()[model_type].heads
    head = next(one for one in ("mlm", "seqcls", "imgcls") if one in heads)
    folder = make_reference(model_type, head, tmp_path / "model")
    ours = load(folder)
    family = ours.family
    theirs = load_hf(
        open_source(folder),
        class_name=family.heads[head].hf_class,
        dtype=torch.float32,
        attention=family.backend(ours.hf_config),
    ).model
    decayed = set(HFTrainer.get_decay_parameter_names(None, theirs))
    named = dict(theirs.named_parameters(remove_duplicate=False))
    plain, prefix = no_decay_names(ours), family.prefix_of(head)
    for binding in ours.provenance.plan.bindings:
        found = [hf_parameter(d, named, prefix, family.name_in_memory) for d in binding.disk]
        name = next(one for one in found if one is not None)
        assert (binding.memory in plain) == (name not in decayed), binding.memory


def test_layer_decay(make: Callable[[], nn.Module]) -> None:
    model = make()
    groups = parameter_groups(model, TrainConfig(lr=1.0, layer_decay=0.5, weight_decay=0.1))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {names[id(p)]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert found["head.weight"] == (1.0, 0.1)
    assert found["head.bias"] == (1.0, 0.0)
    assert found["layers.1.1.weight"] == (0.5, 0.1)
    assert found["layers.1.0.weight"] == (0.5, 0.0)
    assert found["layers.0.1.weight"] == (0.25, 0.1)
    assert found["embed.weight"] == (0.125, 0.1)
    assert len(found) == len(list(model.parameters()))
    with pytest.raises(ConfigError, match="layers"):
        parameter_groups(nn.Linear(2, 2), TrainConfig(layer_decay=0.9))


def test_freezing_by_name_and_layer(make: Callable[[], nn.Module], data: Any, step: Any) -> None:
    model = make()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    Trainer(model, step=step, lr=1e-2, freeze=("embed", "layers.0", "head.bias")).fit(data, max_steps=3)
    for name, parameter in model.named_parameters():
        stays = name.startswith(("embed.", "layers.0.")) or name == "head.bias"
        assert torch.equal(parameter, before[name]) == stays, name
    with pytest.raises(ConfigError, match=r"layers\.7"):
        freeze(make(), ["layers.7"])
    with pytest.raises(ConfigError, match="nothing to train"):
        Trainer(make(), step=step, freeze=("embed", "layers", "head")).setup(data)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"lr": 0.0}, "`lr`"),
        ({"batch_size": 0, "epochs": 0}, "`batch_size` should be at least 1, found 0; `epochs`"),
        ({"schedule": "square"}, "one of linear, cosine, constant"),
        ({"learning_rate": 1.0}, "No such settings: learning_rate"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], said: str, make: Callable[[], nn.Module]) -> None:
    with pytest.raises(ConfigError, match=said):
        Trainer(make(), **settings)
