"""Loading a quantised base streams: it never holds more than the result and one tensor of the file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from biject.verify.reference import make_reference

SIZES = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
}


PAGES = 16 * 2**20
"""Bytes of libraries that run first now, and of the file around what is read: a tenth of the file at most."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """201 MB in bfloat16, 16 MB of it the largest tensor in float32."""
    folder = tmp_path_factory.mktemp("wide") / "model"
    return make_reference("llama", "causal", folder, overrides=SIZES, dtype=torch.bfloat16)


def measured(folder: Path, *arguments: str) -> dict[str, int]:
    command = [sys.executable, "-m", "parity.quantised_memory", str(folder), *arguments]
    tests = Path(__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    found: dict[str, int] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("method", "dtype"),
    [
        ("nf4", "float32"),
        pytest.param("nf4", "auto", marks=pytest.mark.slow),
        pytest.param("int8", "auto", marks=pytest.mark.slow),
        pytest.param("int8", "float32", marks=pytest.mark.slow),
    ],
)
def test_peak_memory(method: str, dtype: str, folder: Path) -> None:
    found = measured(folder, method, dtype)
    print(method, dtype, {name: round(value / 2**20, 1) for name, value in found.items()})
    assert found["peak"] <= found["model"] + found["largest"]
    assert found["codes"] <= 1.1 * found["peak"]  # it was measured at all
    assert found["resident"] <= found["model"] + found["largest"] + PAGES


def test_a_loader_that_keeps_what_it_read_is_seen(folder: Path) -> None:
    found = measured(folder, "nf4", "float32", "hoard")
    assert found["peak"] > found["model"] + found["largest"]
    found = measured(folder, "nf4", "float32", "map")
    assert found["peak"] <= found["model"] + found["largest"]
    assert found["resident"] > found["model"] + found["largest"] + PAGES
