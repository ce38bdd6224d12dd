"""`freeze` and `layer_decay` by our names and Hugging Face's, of bare models and wrapped ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import biject
from biject.config.recipe import TrainConfig
from biject.errors import ConfigError
from biject.families import families
from biject.train.names import depth_of, spellings
from biject.train.optim import freeze, parameter_groups
from biject.verify.reference import make_reference


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root, made = tmp_path_factory.mktemp("names"), {}

    def get(model_type: str) -> Path:
        if model_type not in made:
            made[model_type] = make_reference(model_type, "base", root / model_type)
        return made[model_type]

    return get


class Wrapped(nn.Module):
    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        self.top = nn.Linear(2, 2)


def frozen(model: nn.Module, *names: str) -> set[str]:
    freeze(model, names)
    return {name for name, parameter in model.named_parameters() if not parameter.requires_grad}


@pytest.mark.parametrize(
    ("model_type", "ours", "theirs"),
    [
        ("bert", "layers.0", "bert.encoder.layer.0"),
        ("bert", "embed", "embeddings.word_embeddings"),
        ("gpt2", "layers.1", "transformer.h.1"),
        ("gpt2", "layers.1", "h.1"),
        ("llama", "layers.0", "model.layers.0"),
        ("distilbert", "layers.1", "distilbert.transformer.layer.1"),
        ("modernbert", "layers.0.mlp", "layers.0.mlp"),
        ("deberta-v2", "layers.0", "deberta.encoder.layer.0"),
    ],
)
def test_both_names(folder, model_type: str, ours: str, theirs: str) -> None:
    one, other = (biject.AutoModel.from_pretrained(folder(model_type)) for _ in range(2))
    expected = frozen(one, ours)
    found = frozen(other, theirs)
    assert found
    assert found == {name for name in expected if theirs != "embeddings.word_embeddings" or "tokens" in name}


def test_a_wrapped_trunk(folder) -> None:
    for name in (
        "trunk.layers.0",
        "layers.0",
        "bert.encoder.layer.0",
        "encoder.layer.0",
        "trunk.encoder.layer.0",
    ):
        model = Wrapped(biject.AutoModel.from_pretrained(folder("bert")))
        found = frozen(model, name)
        assert found
        assert all(each.startswith("trunk.layers.0.") for each in found), name


def test_patterns_and_unknown_names(folder) -> None:
    model = biject.AutoModel.from_pretrained(folder("bert"))
    assert all(name.endswith("bias") for name in frozen(model, "*.bias"))
    with pytest.raises(ConfigError, match=r"encoder\.layer\.0"):
        freeze(model, ["encoder.layr.0"])
    with pytest.raises(ConfigError, match="no parameter"):
        freeze(model, ["*.weigth"])


def test_every_parameter_of_a_file_has_its_names(folder) -> None:
    for model_type in families():
        model = biject.AutoModel.from_pretrained(folder(model_type))
        known = spellings(model)
        for binding in model.provenance.plan.bindings:
            assert set(binding.disk) <= known[binding.memory]


def rates(model: nn.Module, decay: float) -> dict[str, float]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups: list[dict[str, Any]] = parameter_groups(model, TrainConfig(lr=1.0, layer_decay=decay))  # type: ignore[assignment]
    return {names[id(p)]: group["lr"] for group in groups for p in group["params"]}


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama", "distilbert", "modernbert"])
def test_layer_decay_of_hf_models_is_that_of_ours(folder, model_type: str) -> None:
    import transformers

    ours = biject.AutoModel.from_pretrained(folder(model_type))
    hf = transformers.AutoModel.from_pretrained(folder(model_type))
    mine, theirs = rates(ours, 0.5), rates(hf, 0.5)
    for binding in ours.provenance.plan.bindings:
        for name in binding.disk:
            short = name.removeprefix(f"{ours.family.prefix_of('base')}.")
            found = theirs.get(name, theirs.get(short))
            assert found is None or found == mine[binding.memory], name
    wrapped = rates(Wrapped(ours), 0.5)
    assert all(wrapped[f"trunk.{name}"] == rate for name, rate in mine.items())
    assert wrapped["top.weight"] == 1.0


def test_depths() -> None:
    assert [depth_of(f"layers.{i}.attn.q_proj.weight", 4) for i in range(4)] == [1, 2, 3, 4]
    assert depth_of("embed.tokens.weight", 4) == depth_of("transformer.wte.weight", 4) == 0
    assert depth_of("head.out.weight", 4) == depth_of("classifier.bias", 4) == 5
