"""docs/api.md says what the docstrings say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

import biject

SCRIPT = Path(__file__).parents[2] / "scripts" / "write_api.py"


@pytest.fixture(scope="module")
def writer() -> ModuleType:
    if not SCRIPT.is_file():
        pytest.skip("an installed package has no scripts")
    spec = importlib.util.spec_from_file_location("write_api", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_current(writer: ModuleType) -> None:
    assert writer.PAGE.read_text() == writer.page(), "run `make api`"


def test_a_changed_docstring_is_seen(writer: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(biject.Trainer.fit, "__doc__", "Something else.")
    assert "Something else." in writer.page()
    assert writer.PAGE.read_text() != writer.page()


def test_every_public_name_has_a_section_and_words(writer: ModuleType) -> None:
    for name in biject.__all__:
        if not name.startswith("_"):
            assert f"\n## {name}\n" in writer.page()
            assert getattr(biject, name).__doc__
