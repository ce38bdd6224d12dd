"""Recipes as TOML: what is written is read back, whatever the values; what is wrong is named."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from biject.config.recipe import FinetuneRecipe, TrainConfig
from biject.config.recipe_file import dump_recipe, make_recipe, read_recipe
from biject.errors import ConfigError, InputError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: text != "none")
FLOATS = st.floats(min_value=1e-12, max_value=1e3)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    model=TEXT,
    data=TEXT,
    column=st.none() | TEXT | st.tuples(TEXT, TEXT),
    labels=st.lists(TEXT, unique=True).map(tuple),
    lr=FLOATS,
    clip=st.none() | FLOATS,
    truncate=st.booleans(),
    freeze=st.lists(TEXT).map(tuple),
)
def test_what_is_written_is_read_back(model, data, column, labels, lr, clip, truncate, freeze) -> None:
    train = TrainConfig(lr=lr, clip_norm=clip, freeze=freeze)
    recipe = FinetuneRecipe(
        model=model,
        data=data,
        task="seqcls",
        text_column=column,
        labels=labels,
        truncate=truncate,
        train=train,
    )
    assert make_recipe(tomllib.loads(dump_recipe(recipe, comment="a\nb"))) == recipe


def test_every_key_is_documented() -> None:
    for kind in (TrainConfig, FinetuneRecipe):
        for name in kind.__dataclass_fields__:
            assert f"{name}: " in (kind.__doc__ or ""), name


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"modle": "x"}, "nearest: `model`"),
        ({"lr": 1.0}, "it is called `train.lr`"),
        ({"train": {"data": "x"}}, "it is called `data`"),
        ({"train": 3}, "should be a table"),
        ({}, "`model`, `data`, `task` must be given"),
        ({"model": "a", "data": "b", "task": "qa", "stride": "none", "max_length": True}, "max_length"),
        ({"model": "a", "data": "b", "task": "qa", "train": {"schedule": "up"}}, "linear, cosine, constant"),
        ({"model": "a", "data": "b", "task": "qa", "labels": ["x", "x"]}, "names one twice"),
        ({"model": "", "data": "b", "task": "qa", "validation": 1.5}, "`model` is empty; `validation`"),
    ],
)
def test_what_is_wrong_is_named(values, says) -> None:
    with pytest.raises(ConfigError, match=says.replace("(", r"\(")):
        make_recipe(values)


@pytest.mark.parametrize("content", [b"a = ", b"\xff\xfe", b"a = " + b"[" * 100_000, b"a = 1\na = 2"])
def test_files_that_are_no_recipe(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match="no recipe in TOML"):
        read_recipe(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_recipe(tmp_path / "nothing.toml")
