"""Files and modules that the documentation names are there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
_PATH = re.compile(r"`((?:src|tests|scripts|benchmarks|examples|docs)/[\w./-]+\.(?:py|md))`")
_SHORT = re.compile(r"`((?:nn|config|families|weights|verify|train|data|tasks|checkpoint)/[\w/]+\.py)`")
_LINK = re.compile(r"\]\(((?!https?:|#)[^)#]+)")
_NO_MODULES = ("biject.json", "biject.modules", "biject.families")
"""A file, and groups of entry points."""
_MODULE = re.compile(r"`(biject(?:\.[a-z_]+)+)`")


def missing(text: str, page: Path) -> list[str]:
    """What a page names and nobody finds."""
    found = [path for path in _PATH.findall(text) if not (ROOT / path).is_file()]
    found += [path for path in _SHORT.findall(text) if not (ROOT / "src" / "biject" / path).is_file()]
    found += [link for link in _LINK.findall(text) if not (page.parent / link).exists()]
    return found + [
        name for name in _MODULE.findall(text) if name not in _NO_MODULES and not _importable(name)
    ]


def _importable(name: str) -> bool:
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            if importlib.util.find_spec(".".join(parts[:count])) is not None:
                break
        except ModuleNotFoundError:
            continue
    if count == len(parts):
        return True
    module = importlib.import_module(".".join(parts[:count]))
    return count == len(parts) - 1 and hasattr(module, parts[-1])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_is_there(page: Path) -> None:
    if not page.is_file():
        pytest.skip("an installed package has no documentation")
    assert missing(page.read_text(), page) == []


def test_a_wrong_name_is_found() -> None:
    if not PAGES[-1].is_file():
        pytest.skip("an installed package has no documentation")
    page = ROOT / "docs" / "some.md"
    text = "`src/biject/gone.py` `nn/inputs.py` [x](gone.md) `biject.gone` `biject.pipeline` `nn/planner.py`"
    assert missing(text, page) == ["src/biject/gone.py", "nn/inputs.py", "gone.md", "biject.gone"]
