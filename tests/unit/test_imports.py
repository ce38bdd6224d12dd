"""What an import costs and brings along, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import biject

HEAVY = ("torch", "transformers", "peft", "huggingface_hub", "cyclopts", "rich", "numpy", "safetensors")


def loaded_after(code: str) -> set[str]:
    """Which of the heavy libraries a fresh interpreter has loaded after `code`."""
    tail = f"\nimport json, sys; print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_import_biject_loads_nothing_heavy() -> None:
    assert loaded_after("import biject") == set()


@pytest.mark.parametrize(
    "module",
    [
        "biject.errors",
        "biject.events",
        "biject.environment",
        "biject.config.model",
        "biject.config.table",
        "biject.weights.plan",
        "biject.weights.provenance",
        "biject.checkpoint.header",
        "biject.checkpoint.source",
        "biject.inspection",
        "biject.plan.contract",
        "biject.cli.main",
    ],
)
def test_torch_free_modules(module: str) -> None:
    assert loaded_after(f"import {module}") == set()


def test_families_are_data() -> None:
    assert loaded_after("from biject.families import families; assert len(families()) >= 6") == set()


@pytest.mark.parametrize("module", ["biject.model", "biject.export", "biject.verify"])
def test_the_oracle_is_loaded_only_where_it_is_asked(module: str) -> None:
    assert not {"transformers", "peft", "cyclopts", "rich"} & loaded_after(f"import {module}")


def test_every_public_name_is_there() -> None:
    assert set(dir(biject)) == set(biject.__all__)
    for name in biject.__all__:
        assert getattr(biject, name) is not None


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(AttributeError, match="AutoModelForMaskedLM"):
        biject.AutoModelForCooking  # noqa: B018


def test_names_are_found_once() -> None:
    assert biject.BijectError is biject.BijectError
    assert "BijectError" in vars(biject)


@pytest.mark.parametrize(("given", "expected"), [(None, "passive"), ("active", "active")])
def test_openmp_waits_quietly_unless_the_user_says_otherwise(given: str | None, expected: str) -> None:
    env = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    if given is not None:
        env["OMP_WAIT_POLICY"] = given
    code = "import os, biject; biject.BijectError; print(os.environ['OMP_WAIT_POLICY'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.strip() == expected


def test_openmp_is_left_alone_once_torch_is_loaded() -> None:
    env = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    code = (
        "import sys, types; sys.modules['torch'] = types.ModuleType('torch')\n"
        "import os; from biject.environment import prepare; prepare(); print('OMP_WAIT_POLICY' in os.environ)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.strip() == "False"


@pytest.mark.skipif(
    not os.environ.get("BIJECT_INSTALLED"), reason="only `make test-wheel` runs without the sources"
)
def test_the_installed_package_is_what_is_tested() -> None:
    assert biject.__file__ is not None
    parts = Path(biject.__file__).resolve().parts
    assert "src" not in parts
    assert "site" in parts
