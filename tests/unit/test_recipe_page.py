"""docs/recipe.md lists every key of a recipe as the code has it."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from biject.config.adapter import LoraConfig
from biject.config.augment import AugmentConfig
from biject.config.embed import EmbedConfig
from biject.config.preference import PreferenceConfig
from biject.config.recipe import FinetuneRecipe, TrainConfig
from biject.config.recipe_file import TABLES
from biject.config.sync import SyncConfig

SCRIPT = Path(__file__).parents[2] / "scripts" / "write_recipe.py"


@pytest.fixture(scope="module")
def writer() -> ModuleType:
    if not SCRIPT.is_file():
        pytest.skip("an installed package has no scripts")
    spec = importlib.util.spec_from_file_location("write_recipe", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_current(writer: ModuleType) -> None:
    assert writer.PAGE.read_text() == writer.page(), "run `make api`"


def test_every_key_has_a_row_with_words(writer: ModuleType) -> None:
    rows = [line for line in writer.page().splitlines() if line.startswith("| `")]
    keys = [
        field.name
        for owner in (
            FinetuneRecipe,
            TrainConfig,
            SyncConfig,
            LoraConfig,
            AugmentConfig,
            PreferenceConfig,
            EmbedConfig,
        )
        for field in dataclasses.fields(owner)
    ]
    assert [row.split("`")[1] for row in rows] == [key for key in keys if key not in TABLES]
    assert all(len(row.split(" | ")[-1]) > 10 for row in rows)


def test_a_changed_default_is_seen(writer: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclasses.dataclass(frozen=True)
    class Other(TrainConfig):
        epochs: int = 17

    Other.__doc__ = TrainConfig.__doc__
    monkeypatch.setattr(writer, "TrainConfig", Other)
    assert "`17`" in writer.page()
    assert writer.page() != writer.PAGE.read_text()
