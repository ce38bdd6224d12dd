"""What the design promises of the code itself."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import torch

from biject.config.activations import ACTIVATIONS
from biject.nn.activations import activation


def sources(package: str) -> list[Path]:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    return sorted(Path(spec.submodule_search_locations[0]).rglob("*.py"))


def test_modules_name_no_family() -> None:
    """Citations in docstrings and comments are fine, code is not."""
    for path in sources("biject.nn"):
        code = re.sub(r'""".*?"""|#[^\n]*', "", path.read_text(), flags=re.DOTALL)
        assert not re.search(r"bert|roberta|llama|gpt", code, re.IGNORECASE), path.name


def test_family_files_are_short() -> None:
    for path in sources("biject.families"):
        assert len(path.read_text().splitlines()) < 200, path.name


def test_no_file_is_long() -> None:
    lengths = sorted(len(path.read_text().splitlines()) for path in sources("biject"))
    assert lengths[-1] <= 400
    assert lengths[len(lengths) // 2] <= 130


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_every_known_activation_is_computed(name: str) -> None:
    x = torch.linspace(-3, 3, 37)
    assert activation(name)(x).shape == x.shape
