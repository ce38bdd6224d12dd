"""Which modules an adapter changes: PEFT's rules, on names alone."""

from __future__ import annotations

from typing import Any

import pytest

from biject.adapters.targets import Candidates, pattern_value, saved_modules, targets
from biject.config.adapter import LoraConfig
from biject.errors import ConfigError

LINEAR = tuple(
    f"bert.encoder.layer.{i}.{name}"
    for i in range(3)
    for name in ("attention.self.query", "attention.self.value", "output.dense")
)
MODULES = Candidates(
    linear=(*LINEAR, "pre_classifier", "classifier"),
    tables=("bert.embeddings.word_embeddings",),
    others=("bert.embeddings.LayerNorm",),
    output=None,
)


def found(model_type: str = "bert", saved: tuple[str, ...] = ("classifier",), **settings: Any) -> list[str]:
    return targets(LoraConfig(**settings), MODULES, model_type=model_type, saved=saved)


def test_pefts_choice_where_nothing_is_named() -> None:
    assert found() == [name for name in LINEAR if name.endswith(("query", "value"))]
    with pytest.raises(ConfigError, match="all-linear"):
        found(model_type="martian")


def test_names_last_parts_and_expressions() -> None:
    assert found(target_modules=["query"]) == [name for name in LINEAR if name.endswith("query")]
    assert found(target_modules=[LINEAR[0]]) == [LINEAR[0]]
    assert found(target_modules=r".*layer\.1\..*\.(query|value)") == list(LINEAR[3:5])
    assert found(target_modules=["word_embeddings"]) == ["bert.embeddings.word_embeddings"]
    assert "uery" not in " ".join(found(target_modules=["dense"]))


def test_all_linear_leaves_the_head_out() -> None:
    assert found(target_modules="all-linear") == [*LINEAR, "pre_classifier"]
    assert found(target_modules="ALL-LINEAR", saved=("pre_classifier", "classifier")) == list(LINEAR)


def test_layers_and_exclusions() -> None:
    settings = {"target_modules": ["query", "value"]}
    assert found(**settings, layers_to_transform=[1]) == list(LINEAR[3:5])
    assert found(**settings, layers_to_transform=1, layers_pattern="layer") == list(LINEAR[3:5])
    assert found(**settings, exclude_modules=["value"]) == list(LINEAR[::3])
    assert found(**settings, exclude_modules=r".*layer\.[02].*") == list(LINEAR[3:5])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"target_modules": ["quary"]}, "nearest: query"),
        ({"target_modules": ["LayerNorm"]}, "neither a linear nor an embedding"),
        ({"target_modules": ["classifier"]}, "trained whole"),
        ({"target_modules": ["query"], "exclude_modules": ["query"]}, "leave nothing"),
        ({"target_modules": "(query"}, "no regular expression"),
    ],
)
def test_what_fits_nothing_is_said(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        found(**settings)


def test_saved_modules() -> None:
    names = [*MODULES.linear, *MODULES.tables, *MODULES.others]
    assert saved_modules(LoraConfig(), names, head="seqcls", new=()) == ["pre_classifier", "classifier"]
    assert saved_modules(LoraConfig(), names, head="mlm", new=()) == []
    assert saved_modules(LoraConfig(), names, head="mlm", new=[LINEAR[2]]) == [LINEAR[2]]
    whole = saved_modules(LoraConfig(modules_to_save=["embeddings"]), names, head="mlm", new=())
    assert whole == ["bert.embeddings.word_embeddings", "bert.embeddings.LayerNorm"]
    with pytest.raises(ConfigError, match="modules_to_save"):
        saved_modules(LoraConfig(modules_to_save=["poolar"]), names, head="mlm", new=())


def test_patterns_fit_ends_and_the_first_wins() -> None:
    patterns = {r"layer\.1\.attention\.self\.query": 2, "query": 3}
    assert pattern_value(patterns, LINEAR[3], 8) == 2
    assert pattern_value(patterns, LINEAR[0], 8) == 3
    assert pattern_value(patterns, LINEAR[1], 8) == 8


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"r": 0}, "`r` should be"),
        ({"r": True}, "`r` should be"),
        ({"lora_alpha": float("inf")}, "lora_alpha"),
        ({"lora_dropout": 1.0}, "lora_dropout"),
        ({"bias": "some"}, "none, all or lora_only"),
        ({"init_lora_weights": "eva"}, "pissa_niter_N"),
        ({"rank_pattern": {"query": -1}}, "rank_pattern.query"),
        ({"target_modules": []}, "empty"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        LoraConfig(**settings)


@pytest.mark.parametrize(
    "values",
    [
        {"lora_bias": True},
        {"use_qalora": True},
        {"target_parameters": ["x"]},
        {"trainable_token_indices": [1]},
        {"layer_replication": [[0, 1]]},
        {"something_new": 3},
    ],
)
def test_what_is_not_computed_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        LoraConfig.from_peft({"peft_type": "LORA", "r": 4, **values}, where="x")


def test_pefts_own_configs_are_taken() -> None:
    import peft

    found = LoraConfig.from_object(peft.LoraConfig(r=5, target_modules=["query"]))
    assert (found.r, found.target_modules, found.lora_alpha) == (5, ("query",), 8)
    with pytest.raises(ConfigError, match="IA3"):
        LoraConfig.from_object(peft.IA3Config(target_modules=["key"], feedforward_modules=[]))
    with pytest.raises(ConfigError, match="dict"):
        LoraConfig.from_object({"r": 4})  # type: ignore[arg-type]
