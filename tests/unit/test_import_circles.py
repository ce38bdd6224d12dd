"""`lint-imports` fails on a circle of modules, wherever in the package and however it is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
CONFIG = """[tool.importlinter]
root_package = "planted"
exclude_type_checking_imports = true
contract_types = ["no_circles: import_circles.NoCircles"]
[[tool.importlinter.contracts]]
name = "no circles"
type = "no_circles"
package = "planted"
"""
MODULES = {
    "__init__": "",
    "a": "from planted import b\n",
    "b": "from planted.part import c\n",
    "part/__init__": "",
    "part/c": "",
}

pytestmark = pytest.mark.skipif(bool(os.environ.get("BIJECT_INSTALLED")), reason="about the sources")


def lint(folder: Path, planted: dict[str, str]) -> subprocess.CompletedProcess[str]:
    for name, text in {**MODULES, **planted}.items():
        path = folder / "planted" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "pyproject.toml").write_text(CONFIG)
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    env = {**os.environ, "PYTHONPATH": f"{SCRIPTS}{os.pathsep}{folder}"}
    return subprocess.run([sys.executable, "-c", code], cwd=folder, env=env, capture_output=True, text=True)


def test_a_package_without_a_circle_passes(tmp_path: Path) -> None:
    done = lint(tmp_path, {})
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "planted",
    [
        {"b": "from planted import a\n"},
        {"part/c": "from planted.a import b\n"},
        {"part/c": "def late():\n    import planted.a\n"},
        {"part/c": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from planted import a\n"},
        {"__init__": "from planted.a import b\n", "part/c": "import planted\n"},
    ],
    ids=["two modules", "across packages", "inside a function", "for type checkers", "the package's front"],
)
def test_a_planted_circle_fails(tmp_path: Path, planted: dict[str, str]) -> None:
    done = lint(tmp_path, planted)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "modules import each other" in done.stdout
